import Glibc

/// The setting `pidfile`: keeps a second process from starting with the same file, and tells scripts whom to signal.
struct PidFile {
    let path: String

    /// Creates the file for this process.
    ///
    /// A file that a dead process has left behind is replaced. In a container a restarted process often gets the
    /// number that the file of its predecessor names, so neither its own number nor that of a program of another name
    /// counts as running.
    ///
    /// - Throws: when another Martlet or PgBouncer uses the file, or the file can't be written.
    func create() throws(LaunchError) {
        try self.check()
        unlink(self.path)
        let descriptor = open(self.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw LaunchError("cannot create pidfile \(self.path): \(LaunchError.systemReason)")
        }
        defer { close(descriptor) }
        let text = Array("\(getpid())\n".utf8)
        guard write(descriptor, text, text.count) == text.count else {
            throw LaunchError("cannot write pidfile \(self.path): \(LaunchError.systemReason)")
        }
    }

    /// Throws when another Martlet or PgBouncer uses the file.
    func check() throws(LaunchError) {
        if let other = self.runningProcess() {
            throw LaunchError("pidfile \(self.path) belongs to process \(other): already running")
        }
    }

    /// Removes the file if it is still this process's.
    func remove() {
        guard self.recordedProcess() == getpid() else { return }
        // The directory may be root's alone, and then an empty file is as good.
        if unlink(self.path) != 0 { truncate(self.path, 0) }
    }

    /// Gives the file to the user that the process is about to become.
    func give(to user: uid_t, _ group: gid_t) {
        _ = chown(self.path, user, group)
    }

    /// The process that the file names, if it lives and is one of ours.
    func runningProcess() -> pid_t? {
        guard let process = self.recordedProcess(), process != getpid() else { return nil }
        guard kill(process, 0) == 0 || errno == EPERM else { return nil }
        // Without /proc there is no telling; the careful answer is that it runs.
        guard let name = TextFile.read("/proc/\(process)/comm", limit: 64) else { return process }
        let ours = ["martlet", "pgbouncer"].contains { name.hasPrefix($0) }
        return ours ? process : nil
    }

    private func recordedProcess() -> pid_t? {
        guard let text = TextFile.read(self.path, limit: 32) else { return nil }
        guard let process = pid_t(text.prefix { $0.isNumber }), process > 0 else { return nil }
        return process
    }
}

/// Small files of the operating system.
enum TextFile {
    /// The first bytes of a file as text; nil when it can't be read.
    static func read(_ path: String, limit: Int) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = Glibc.read(descriptor, &bytes, limit)
        guard count >= 0 else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
