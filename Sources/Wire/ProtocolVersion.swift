/// A version of the protocol: 3.0, or 3.2 with secrets of variable length in BackendKeyData and CancelRequest.
public struct ProtocolVersion: Sendable, Comparable, CustomStringConvertible {
    public let major: UInt16
    public let minor: UInt16

    public init(major: UInt16, minor: UInt16) {
        self.major = major
        self.minor = minor
    }

    /// The version of a startup packet's or NegotiateProtocolVersion's number.
    public init(code: UInt32) {
        self.init(major: UInt16(truncatingIfNeeded: code >> 16), minor: UInt16(truncatingIfNeeded: code))
    }

    public static let v30 = ProtocolVersion(major: 3, minor: 0)
    public static let v32 = ProtocolVersion(major: 3, minor: 2)

    /// The newest version served.
    public static let newest = v32

    /// The number in the packet: major in the upper 16 bits, minor in the lower.
    public var code: UInt32 { UInt32(self.major) << 16 | UInt32(self.minor) }

    /// Whether secrets may have any length (up to 256 bytes) and not just 4 bytes.
    public var hasVariableSecrets: Bool { self >= .v32 }

    public var description: String { "\(self.major).\(self.minor)" }

    public static func < (left: ProtocolVersion, right: ProtocolVersion) -> Bool {
        left.code < right.code
    }
}

/// What a server answers to a startup packet's version and protocol extensions (`_pq_.` parameters).
public struct ProtocolNegotiation: Sendable, Equatable {
    /// The version that is spoken from now on.
    public let version: ProtocolVersion
    /// Names of the requested extensions, none of which is known here.
    public let unknownExtensions: [String]
    /// Whether NegotiateProtocolVersion has to be sent, before anything else.
    public let answerNeeded: Bool

    /// Settles on the older of the requested and the newest version served, as PostgreSQL does.
    public init(requested: ProtocolVersion, extensions: [String]) {
        self.version = min(requested, .newest)
        self.unknownExtensions = extensions
        self.answerNeeded = requested > .newest || !extensions.isEmpty
    }
}
