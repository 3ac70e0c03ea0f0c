public import Authentication
import Reactor
public import Settings

/// Everything that a reload replaces: the settings, the secrets of the `auth_file`, the HBA rules, the certificates. Immutable; each reactor holds
/// the newest one it was given.
public final class Configuration: Sendable {
    public let settings: Settings
    /// Users' secrets from the `auth_file`.
    public let secrets: [String: Secret]
    /// Rules of the `auth_hba_file` with the maps of the `auth_ident_file`; none unless `auth_type=hba`.
    let hba: HBA
    /// The `auth_ldap_options`; nil unless `auth_type=ldap`.
    let ldap: LDAPOptions?
    /// Certificates and keys.
    let tls: TLSContexts
    /// Whether most of the secrets are SCRAM verifiers.
    let prefersSCRAM: Bool
    /// Those databases of the file whose server connections have a user of their own.
    private let databasesWithUser: Set<String>
    /// Whether there is `*`, and with a user of its own.
    private let hasFallback: Bool
    private let isFallbackWithUser: Bool

    init(
        settings: Settings, secrets: [String: Secret], hba: HBA = HBA(), ldap: LDAPOptions? = nil,
        tls: TLSContexts = TLSContexts()
    ) {
        self.settings = settings
        self.secrets = secrets
        self.hba = hba
        self.ldap = ldap
        self.tls = tls
        let verifiers = secrets.values.count { if case .scram = $0 { true } else { false } }
        self.prefersSCRAM = verifiers * 2 > secrets.count
        self.databasesWithUser = Set(settings.databases.filter { $0.value.user != nil }.keys)
        self.hasFallback = settings.fallbackDatabase != nil
        self.isFallbackWithUser = settings.fallbackDatabase?.user != nil
    }

    // Each login asks these: to look at an entry of the settings is to copy it, which takes longer than the rest of a login.

    /// Whether there is a database for the name that a client asks for: an entry of its own, or `*`.
    func hasDatabase(named name: String) -> Bool {
        self.settings.databases.index(forKey: name) != nil || self.hasFallback
    }

    /// Whether the server connections of that database have a user of their own.
    func forcesUser(inDatabase name: String) -> Bool {
        if self.settings.databases.index(forKey: name) != nil { return self.databasesWithUser.contains(name) }
        return self.isFallbackWithUser
    }

    /// The same files, with other settings.
    func with(_ settings: Settings) -> Configuration {
        Configuration(settings: settings, secrets: self.secrets, hba: self.hba, ldap: self.ldap, tls: self.tls)
    }

    /// The databases of the file that are routed.
    var routedDatabases: [DatabaseSettings] {
        self.settings.databases.keys.compactMap { self.settings.database(named: $0) }
            .filter { $0.name != "*" && self.isRouted($0) }
    }

    func isRouted(_ database: DatabaseSettings) -> Bool {
        (database.routing ?? self.settings.general.routing) != .off
    }

    /// Whether other settings name other files than these.
    func needsOtherFiles(for settings: Settings) -> Bool {
        let (old, new) = (self.settings.general, settings.general)
        return old.authType != new.authType || old.authFile != new.authFile || old.authHbaFile != new.authHbaFile
            || old.authIdentFile != new.authIdentFile || old.authLdapOptions != new.authLdapOptions
    }

    /// Reads the files that the settings name.
    ///
    /// - Parameter readFile: the bytes of a file.
    /// - Returns: the configuration, nil if a file cannot be read or a rule is wrong; and what is wrong, each line with
    ///   its place.
    public static func load(
        _ settings: Settings, readFile: @escaping (String) -> Result<[UInt8], FileError>
    ) -> (configuration: Configuration?, problems: [String]) {
        let tls: TLSContexts
        switch TLSContexts.load(settings, readFile: readFile) {
        case .failure(let error): return (nil, [error.description])
        case .success(let contexts): tls = contexts
        }
        var secrets: [String: Secret] = [:]
        var problems: [String] = []
        if let path = settings.general.authFile, !path.isEmpty {
            switch readFile(path) {
            case .failure(let error): return (nil, ["auth_file: cannot read \(path): \(error.reason)"])
            case .success(let bytes): (secrets, problems) = PasswordFile.parse(bytes.span, file: path)
            }
        }
        switch settings.general.authType {
        case .hba:
            let (hba, wrong) = Self.rules(settings.general, readFile: readFile)
            guard let hba else { return (nil, wrong) }
            return (Configuration(settings: settings, secrets: secrets, hba: hba, tls: tls), problems)
        case .ldap:
            let (ldap, wrong) = LDAPOptions.parse(settings.general.authLdapOptions ?? "")
            guard let ldap else { return (nil, ["auth_ldap_options: \(wrong ?? "wrong")"]) }
            return (Configuration(settings: settings, secrets: secrets, ldap: ldap, tls: tls), problems)
        case .any, .trust, .plain, .md5, .cert, .pam, .scramSHA256:
            return (Configuration(settings: settings, secrets: secrets, tls: tls), problems)
        }
    }

    /// Reads the `auth_ident_file` and the `auth_hba_file`.
    private static func rules(
        _ general: GeneralSettings, readFile: @escaping (String) -> Result<[UInt8], FileError>
    ) -> (hba: HBA?, problems: [String]) {
        let read: (String) -> Result<[UInt8], any Error> = { path in readFile(path).mapError { $0 } }
        var maps = IdentMaps()
        if let path = general.authIdentFile, !path.isEmpty {
            switch readFile(path) {
            case .failure(let error): return (nil, ["auth_ident_file: cannot read \(path): \(error.reason)"])
            case .success(let bytes):
                let (parsed, problems) = IdentMaps.parse(bytes.span, file: path, read: read)
                guard problems.isEmpty else { return (nil, problems) }
                maps = parsed
            }
        }
        switch readFile(general.authHbaFile) {
        case .failure(let error): return (nil, ["auth_hba_file: cannot read \(general.authHbaFile): \(error.reason)"])
        case .success(let bytes):
            return HBA.parse(bytes.span, file: general.authHbaFile, identMaps: maps, read: read)
        }
    }
}
