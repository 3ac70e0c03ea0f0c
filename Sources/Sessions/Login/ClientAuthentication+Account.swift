public import Authentication
public import Settings

extension ClientAuthentication {
    /// What is known of who logs in; looked up once the startup packet is there.
    public struct Account: Sendable {
        public var authType: AuthType
        /// The user's secret, nil if there is none.
        public var secret: Secret?
        /// The HBA file's rule for this client, under `auth_type=hba`; nil if no rule is about it.
        public var rule: HBARule?
        /// How to ask the directory, for `ldap`.
        public var ldap: LDAPOptions?
        public var identMaps = IdentMaps()
        /// Who is at the other end of the Unix socket, if the rule asks for it.
        public var systemUser: String?
        /// The database has a user of its own for its server connections.
        public var hasForcedUser = false
        /// The server has told of the user, though perhaps of no password.
        public var isKnownToServer = false
        /// What users are asked for that the `auth_file` lacks, under `auth_type=md5`: the same as most of the others.
        public var prefersSCRAM = false
        /// User `pgbouncer` on the Unix socket, run by the proxy's own operating system user.
        public var isTrustedPeer = false
        public var isShuttingDown = false
        /// `auth_allow_md5`.
        public var allowsMD5 = true
        /// The password of a user without a secret is tried at the server (`auth_passthrough`).
        public var isPassedThrough = false
        public var scramIterations = SCRAMVerifier.defaultIterations
        /// What a client hashes its password with for MD5, 4 bytes; nil draws them.
        public var md5Salt: [UInt8]?
        /// Random, and the same for the life of the process.
        public var processSecret: SecretBytes

        public init(authType: AuthType, secret: Secret? = nil, processSecret: SecretBytes) {
            self.authType = authType
            self.secret = secret
            self.processSecret = processSecret
        }

        /// Whether the name in a certificate may log in as the user, by the rule's map if it has one.
        public func allows(_ name: String, as user: String) -> Bool {
            self.identMaps.allow(name, as: user, map: self.rule?.map)
        }

        /// The user has to be in the `auth_file`, or a server must have told of it, as in PgBouncer: the file says who
        /// may come in, also where nobody is asked for a password, and where servers see another name.
        public var isKnown: Bool { self.secret != nil || self.isKnownToServer }

        /// Nobody knows the user, and nobody else is going to be asked: no login can succeed. For the log alone.
        public var isMissed: Bool {
            let method =
                self.authType == .hba ? self.rule.map { $0.method != .ldap && $0.method != .reject } ?? false : true
            return method && !self.isKnown && !self.isPassedThrough && !self.isTrustedPeer
                && ![.any, .pam, .ldap].contains(self.authType)
        }
    }
}
