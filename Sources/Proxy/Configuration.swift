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
    /// - Returns: the configuration, nil if a file cannot be read, a line of one is wrong, or one that tells who may log
    ///   in names nobody; and what is wrong, or doubtful, each line with its place.
    public static func load(
        _ settings: Settings, readFile: @escaping (String) -> Result<[UInt8], FileError>
    ) -> (configuration: Configuration?, problems: [String]) {
        var errors: [String] = []
        var doubts: [String] = []
        var tls = TLSContexts()
        switch TLSContexts.load(settings, readFile: readFile) {
        case .failure(let error): errors.append(error.description)
        case .success(let contexts): tls = contexts
        }
        var secrets: [String: Secret] = [:]
        if let path = settings.general.authFile, !path.isEmpty {
            switch readFile(path) {
            case .failure(let error): errors.append("auth_file: cannot read \(path): \(error.reason)")
            case .success(let bytes):
                let file = PasswordFile.parse(bytes.span, file: path)
                secrets = file.secrets
                errors += file.errors
                doubts += file.doubts
            }
        }
        var hba = HBA()
        var ldap: LDAPOptions?
        switch settings.general.authType {
        case .hba:
            let (rules, wrong) = Self.rules(settings.general, readFile: readFile)
            errors += wrong
            if let rules { hba = rules }
            doubts += Self.doubts(about: hba, settings.general)
        case .ldap:
            let (options, wrong) = LDAPOptions.parse(settings.general.authLdapOptions ?? "")
            if let wrong { errors.append("auth_ldap_options: \(wrong)") }
            ldap = options
        case .any, .trust, .plain, .md5, .cert, .pam, .scramSHA256: break
        }
        let configuration = Configuration(settings: settings, secrets: secrets, hba: hba, ldap: ldap, tls: tls)
        if errors.isEmpty, configuration.letsNobodyIn, let path = settings.general.authFile {
            errors.append("auth_file: \(path) names no user: nobody could log in")
        }
        return errors.isEmpty ? (configuration, doubts) : (nil, errors)
    }

    /// Whether nobody can log in, as only the `auth_file` could tell of users, and tells of none.
    var letsNobodyIn: Bool {
        let general = self.settings.general
        guard self.secrets.isEmpty, !self.settings.asksServers, !general.authPassthrough else { return false }
        return switch general.authType {
        case .any, .pam, .ldap: false
        case .trust, .plain, .md5, .cert, .scramSHA256: true
        case .hba: !self.hba.rules.contains { $0.method == .ldap }
        }
    }

    /// What the other files say otherwise than those of the configuration before, one line for each.
    func filesChanged(since old: Configuration) -> [String] {
        var lines: [String] = []
        if self.secrets != old.secrets {
            let added = self.secrets.keys.count { old.secrets[$0] == nil }
            let removed = old.secrets.keys.count { self.secrets[$0] == nil }
            let changed = self.secrets.count { name, secret in old.secrets[name].map { $0 != secret } ?? false }
            lines.append("auth_file: \(added) users added, \(removed) removed, \(changed) changed")
        }
        if self.hba.rules != old.hba.rules { lines.append("auth_hba_file: \(self.hba.rules.count) rules") }
        if self.hba.identMaps != old.hba.identMaps { lines.append("auth_ident_file: the maps have changed") }
        for key in self.tls.filesChanged(since: old.tls) { lines.append("\(key): the file has changed") }
        return lines
    }

    /// Whether connections to servers made under `old` are not encrypted as it is wanted now.
    func needsOtherServerTLS(than old: Configuration) -> Bool {
        self.settings.general.needsOtherServerTLS(than: old.settings.general)
            || self.tls.filesChanged(since: old.tls).contains { $0.hasPrefix("server_tls") }
    }

    /// Rules that are about nobody, though they were meant for somebody.
    private static func doubts(about hba: HBA, _ general: GeneralSettings) -> [String] {
        guard general.clientTlsSslmode == .disable || general.clientTlsCaFile.isEmpty else { return [] }
        return hba.rules.filter { $0.method == .cert }.map { rule in
            "\(rule.place): nobody can log in by this rule: certificates need client_tls_sslmode and client_tls_ca_file"
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
            let (hba, problems) = HBA.parse(bytes.span, file: general.authHbaFile, identMaps: maps, read: read)
            guard hba?.rules.isEmpty != true else {
                return (nil, ["auth_hba_file: \(general.authHbaFile) has no rules: nobody could log in"])
            }
            return (hba, problems)
        }
    }
}
