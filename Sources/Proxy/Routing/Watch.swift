import Authentication
import Settings
import Topology
import Wire

/// Databases with the same key share one monitor: they have the same servers, in whatever order, and the same settings of
/// the checks, as far as these are given.
struct MonitorKey: Hashable {
    private let hosts: Set<HostAddress>
    /// The settings without what the databases may have each for itself.
    private let shape: ClusterSettings

    /// Whether `check_dbname` is given.
    var givesDatabase: Bool { self.shape.logins.contains { !$0.dbname.isEmpty } }

    init(_ settings: ClusterSettings, given login: ClusterSettings.Login) {
        self.hosts = Set(settings.hosts)
        var shape = settings
        shape.hosts = []
        shape.logins = [login]
        shape.databases = []
        self.shape = shape
    }
}

/// How a database's servers are watched.
struct Watch {
    let settings: ClusterSettings
    let key: MonitorKey
    /// As whom its catalogue is read.
    let catalogueLogin: ClusterSettings.Login

    init(_ database: DatabaseSettings, _ configuration: Configuration) {
        let general = configuration.settings.general
        let givenDatabase = database.checkDbname ?? general.checkDbname
        // Clients can think of as many databases for `*` as they like, which need not exist.
        let ownDatabase = database.isAutomatic ? "postgres" : database.serverDatabase
        let givenUser = database.checkUser ?? general.checkUser
        let user = givenUser ?? database.user
        var password = database.checkPassword ?? (database.checkUser == nil ? general.checkPassword : nil)
        if password == nil && givenUser == nil { password = database.password }
        if password == nil, let user, case .plain(let secret)? = configuration.secrets[user] {
            password = secret.span.text(0..<secret.count)
        }
        var login = ClusterSettings.Login(user: user, password: password, dbname: givenDatabase ?? ownDatabase)
        var settings = ClusterSettings(hosts: database.hosts, logins: [login])
        settings.checkInterval = database.checkInterval ?? general.checkInterval
        settings.checkTimeout = database.checkTimeout ?? general.checkTimeout
        settings.sampleInterval = general.sampleInterval
        settings.nameInterval = general.dnsMaxTtl
        settings.maxReplicaLag = database.maxReplicaLag ?? general.maxReplicaLag
        settings.maxReplicaLagBytes = database.maxReplicaLagBytes ?? general.maxReplicaLagBytes
        settings.tls.mode = configuration.settings.effectiveServerSSLMode(database: database)
        settings.tls.channelBinding = database.channelBinding
        settings.tls.rootCert = general.serverTlsCaFile
        settings.tls.cert = general.serverTlsCertFile
        settings.tls.key = general.serverTlsKeyFile
        if !database.isAutomatic { settings.databases = [database.name] }
        self.settings = settings
        self.key = MonitorKey(
            settings,
            given: ClusterSettings.Login(
                user: givenUser, password: givenUser == nil ? nil : password, dbname: givenDatabase ?? ""))
        login.dbname = database.serverDatabase
        self.catalogueLogin = login
    }
}
