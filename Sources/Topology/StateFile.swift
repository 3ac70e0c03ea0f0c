import Glibc
public import Logging
public import Routing
import Synchronization

/// Keeps what is known of clusters over a restart (`state_file`). Written whenever that changes, by a thread of its own, as a
/// whole: into a file beside it, which then takes its place.
public final class StateFile: Sendable {
    /// Why there can be no state file at this place; a sentence for people.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// What stands in a file.
    public enum Content {
        case clusters([KnownClusters.Cluster])
        /// There is none yet, or an empty one.
        case nothing
        /// It is not what was written there, for this reason.
        case damaged(String)
    }

    private let path: String
    private let clusters: KnownClusters
    private let logger: Logger
    private let waker = Waker()

    /// A larger file is none of ours.
    private static let maximumSize = 16 << 20
    /// After a failure it is tried again, microseconds.
    private static let retryInterval: Int64 = 10_000_000

    public init(path: String, clusters: KnownClusters, logger: Logger) {
        self.path = path
        self.clusters = clusters
        self.logger = logger
    }

    /// Takes over what stands in the file, and keeps it up to date from then on. To be called once, before anybody watches a
    /// cluster. A file that is damaged, or is something else, is put aside with a warning.
    public func open() throws(Failure) {
        switch try Self.read(self.path) {
        case .clusters(let known): self.clusters.restore(known)
        case .nothing: break
        case .damaged(let reason):
            let aside = self.path + ".damaged"
            guard rename(self.path, aside) == 0 else {
                throw Failure(
                    description: "state_file: \(self.path): \(reason), and it cannot be renamed: \(Self.reason)")
            }
            self.logger.warning(
                "state_file: \(self.path) is not used: \(reason); it is \(aside) now. Roles are found out as without it"
            )
        }
        // Whether it can be written is found out now, not after the first failover.
        try self.write()
        let waker = self.waker
        self.clusters.onChange { waker.wake() }
        guard startMonitorThread("martlet-state", { self.run() }) else {
            throw Failure(description: "state_file: there is no thread left to write \(self.path)")
        }
    }

    /// What stands in a file. Changes nothing.
    public static func read(_ path: String) throws(Failure) -> Content {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return .nothing }
            throw Failure(description: "state_file: cannot read \(path): \(Self.reason)")
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw Failure(description: "state_file: cannot read \(path): \(Self.reason)") }
            if count == 0 { break }
            bytes += chunk[..<count]
            if bytes.count > Self.maximumSize { return .damaged("it is no state file of Martlet's") }
        }
        guard !bytes.isEmpty else { return .nothing }
        switch KnownClusters.parse(bytes) {
        case .success(let clusters): return .clusters(clusters)
        case .failure(let damage): return .damaged(damage.description)
        }
    }

    private func run() {
        var written: UInt64 = 0
        var lastFailure: String?
        while true {
            let version = self.clusters.version.load(ordering: .acquiring)
            if version != written || lastFailure != nil {
                do throws(Failure) {
                    try self.write()
                    written = version
                    if lastFailure != nil { self.logger.notice("state_file: \(self.path) is written again") }
                    lastFailure = nil
                } catch {
                    if lastFailure != error.description { self.logger.error("\(error)") }
                    lastFailure = error.description
                }
            }
            self.waker.wait(until: lastFailure == nil ? .max : monotonicNow() + Self.retryInterval)
        }
    }

    /// Writes a new file and puts it in the place of the old one, so that there is a whole one at any time, also after the
    /// machine has failed.
    private func write() throws(Failure) {
        let bytes = Array(KnownClusters.text(self.clusters.all).utf8)
        let temporary = self.path + ".new"
        do throws(Failure) {
            let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard descriptor >= 0 else { throw self.failure }
            defer { close(descriptor) }
            var start = 0
            while start < bytes.count {
                let count = bytes.withUnsafeBytes {
                    Glibc.write(descriptor, $0.baseAddress?.advanced(by: start), $0.count - start)
                }
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { throw self.failure }
                start += count
            }
            guard fsync(descriptor) == 0, rename(temporary, self.path) == 0 else { throw self.failure }
        } catch {
            unlink(temporary)
            throw error
        }
        // The new name, too. A file system without that has nothing better.
        let folder = self.path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        let descriptor = Glibc.open(
            folder.isEmpty ? (self.path.hasPrefix("/") ? "/" : ".") : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = fsync(descriptor)
        close(descriptor)
    }

    private var failure: Failure { Failure(description: "state_file: cannot write \(self.path): \(Self.reason)") }

    private static var reason: String { String(cString: strerror(errno)) }
}
