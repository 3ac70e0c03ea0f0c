/// What a `TLSContext` is made from: the contents of files, and the rules of one side.
public struct TLSOptions: Sendable {
    /// Which side of the handshake the context is for.
    public enum Role: Sendable { case server, client }

    /// A PEM file that has been read.
    public struct File: Sendable {
        /// For messages.
        public let name: String
        public let bytes: [UInt8]

        public init(name: String, bytes: [UInt8]) {
            self.name = name
            self.bytes = bytes
        }
    }

    /// Versions of the protocol.
    public struct Versions: OptionSet, Sendable {
        public let rawValue: Int
        public init(rawValue: Int) { self.rawValue = rawValue }

        public static let v10 = Versions(rawValue: 1)
        public static let v11 = Versions(rawValue: 2)
        public static let v12 = Versions(rawValue: 4)
        public static let v13 = Versions(rawValue: 8)
        public static let secure: Versions = [.v12, .v13]
        public static let all: Versions = [.v10, .v11, .v12, .v13]
    }

    /// Whose certificates are trusted.
    public enum Authorities: Sendable {
        /// None: nothing can be verified.
        case none
        /// Those of the operating system.
        case system
        case file(File)
    }

    /// Ephemeral keys of finite-field Diffie-Hellman, for TLS 1.2.
    public enum DiffieHellman: Int32, Sendable {
        case none = 0
        /// As strong as the certificate's key.
        case automatic = 1
        /// 1024 bits.
        case legacy = 2
    }

    /// Whether clients are asked for their certificate.
    public enum ClientCertificate: Sendable {
        /// They are not asked.
        case ignored
        /// They are asked; who shows one that cannot be verified is refused, who shows none is let in.
        case wanted
        /// Only clients with a certificate that one of the authorities has signed are let in.
        case required
    }

    public var role: Role
    /// The own certificate, with those between it and its authority behind it.
    public var certificates: File?
    /// The certificate's private key.
    public var key: File?
    public var authorities = Authorities.none
    public var versions = Versions.secure
    /// Ciphers of TLS 1.2 and older in OpenSSL's words; nil for OpenSSL's own choice.
    public var ciphers: String?
    /// Ciphers of TLS 1.3; nil for OpenSSL's own choice.
    public var cipherSuites: String?
    /// Elliptic curves in OpenSSL's words; nil for OpenSSL's own choice, empty for none (TLS 1.2).
    public var curves: String?
    public var diffieHellman = DiffieHellman.automatic
    /// As a server: what is asked of clients.
    public var clientCertificate = ClientCertificate.ignored

    public init(role: Role) { self.role = role }
}

/// Why TLS could not be set up, or has ended.
public struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
    public let description: String
    /// A key and its certificate do not belong together, or one of them is missing.
    public let isUnfitPair: Bool

    public init(_ description: String, isUnfitPair: Bool = false) {
        self.description = description
        self.isUnfitPair = isUnfitPair
    }
}
