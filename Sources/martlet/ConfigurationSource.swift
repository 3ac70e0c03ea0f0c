import Glibc
import Proxy
import Settings

/// Where the configuration comes from, and how it is read; the same at start and at each reload.
enum ConfigurationSource: Sendable, Equatable {
    case file(String)
    /// No file at all: pools to the server of this connection URL.
    case url(String)

    /// - Parameter argument: the command line's: a path or `postgresql://…`.
    init(_ argument: String) {
        let isURL = ["postgresql://", "postgres://"].contains { argument.hasPrefix($0) }
        self = isURL ? .url(argument) : .file(argument)
    }

    /// Reads the settings; what is wrong is told all at once.
    ///
    /// - Parameter conffile: the setting `conffile` of the settings in force, which may name another file than the
    ///   command line.
    func load(conffile: String? = nil) -> (settings: Settings?, diagnostics: [Diagnostic]) {
        switch self {
        case .file(let path):
            return Settings.load(path: conffile ?? path, read: SystemFile.read)
        case .url(let url):
            // libpq's variables, for a start that feels like psql's.
            let user = Self.environment("PGUSER") ?? Self.loginName ?? "postgres"
            return Settings.forURL(url, defaultUser: user, defaultPassword: Self.environment("PGPASSWORD"))
        }
    }

    /// Reads the settings and the files that they name, as it is done at the start.
    ///
    /// - Returns: no configuration when there is an error among the diagnostics.
    func loadAll() -> (configuration: Configuration?, diagnostics: [Diagnostic]) {
        let (settings, diagnostics) = self.load()
        guard let settings else { return (nil, diagnostics) }
        let (configuration, problems) = Configuration.load(settings, readFile: SystemFile.read)
        let severity: Diagnostic.Severity = configuration == nil ? .error : .warning
        return (configuration, diagnostics + problems.map { Diagnostic(severity, $0) })
    }

    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty else { return nil }
        return value
    }

    private static var loginName: String? {
        getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) }
    }
}

extension Diagnostic {
    /// Place and message, for a log line, whose level tells the severity.
    var logText: String {
        let place = self.file.map { file in self.line.map { "\(file):\($0): " } ?? "\(file): " }
        return (place ?? "") + self.message
    }
}

/// Files of the configuration.
enum SystemFile {
    /// Largest file that is read, so that a wrong path (`/dev/zero`) ends in a message.
    static let maximumSize = 64 << 20

    /// The bytes of a file.
    static func read(_ path: String) -> Result<[UInt8], FileError> {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(FileError(LaunchError.systemReason)) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count == 0 { return .success(bytes) }
            if count < 0 {
                if errno == EINTR { continue }
                return .failure(FileError(LaunchError.systemReason))
            }
            bytes += chunk[..<count]
            if bytes.count > Self.maximumSize { return .failure(FileError("file is too large")) }
        }
    }
}
