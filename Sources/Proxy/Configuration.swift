public import Authentication
import Reactor
public import Settings

/// Everything that a reload replaces: the settings, the secrets of the `auth_file`, the certificates. Immutable; each reactor holds
/// the newest one it was given.
public final class Configuration: Sendable {
    public let settings: Settings
    /// Users' secrets from the `auth_file`.
    public let secrets: [String: Secret]
    /// Certificates and keys.
    let tls: TLSContexts
    /// Whether most of the secrets are SCRAM verifiers.
    let prefersSCRAM: Bool

    init(settings: Settings, secrets: [String: Secret], tls: TLSContexts = TLSContexts()) {
        self.settings = settings
        self.secrets = secrets
        self.tls = tls
        let verifiers = secrets.values.count { if case .scram = $0 { true } else { false } }
        self.prefersSCRAM = verifiers * 2 > secrets.count
    }

    /// The databases of the file that are routed.
    var routedDatabases: [DatabaseSettings] {
        self.settings.databases.keys.compactMap { self.settings.database(named: $0) }
            .filter { $0.name != "*" && ($0.routing ?? self.settings.general.routing) != .off }
    }

    /// Reads the files that the settings name.
    ///
    /// - Parameter readFile: the bytes of a file.
    /// - Returns: the configuration, nil if a file cannot be read; and what is wrong, each line with its place.
    public static func load(
        _ settings: Settings, readFile: (String) -> Result<[UInt8], FileError>
    ) -> (configuration: Configuration?, problems: [String]) {
        let tls: TLSContexts
        switch TLSContexts.load(settings, readFile: readFile) {
        case .failure(let error): return (nil, [error.description])
        case .success(let contexts): tls = contexts
        }
        guard let path = settings.general.authFile, !path.isEmpty else {
            return (Configuration(settings: settings, secrets: [:], tls: tls), [])
        }
        switch readFile(path) {
        case .failure(let error): return (nil, ["auth_file: cannot read \(path): \(error.reason)"])
        case .success(let bytes):
            let (secrets, problems) = PasswordFile.parse(bytes.span, file: path)
            return (Configuration(settings: settings, secrets: secrets, tls: tls), problems)
        }
    }
}
