/// The untyped first packet of a connection (PostgreSQL manual, "Message Formats").
public enum StartupPacket: Sendable, Equatable {
    /// StartupMessage: a session is wanted.
    case startup(StartupMessage)
    /// SSLRequest: answered by one byte, `S` or `N`.
    case sslRequest
    /// GSSENCRequest: answered by one byte, `G` or `N`.
    case gssEncRequest
    /// CancelRequest: the process id and secret of BackendKeyData, 8 bytes in protocol 3.0 and up to 260 in 3.2.
    case cancel(key: [UInt8])

    /// What stands at the beginning of a connection's bytes.
    public enum Outcome: Sendable, Equatable {
        /// A packet that takes up that many bytes.
        case packet(StartupPacket, length: Int)
        /// The packet is not whole; `needed` bytes are wanted before it makes sense to look again.
        case incomplete(needed: Int)
        /// A TLS record: the client begins with the TLS handshake, without SSLRequest.
        case directTLS
        /// Not acceptable; the connection has to be closed.
        case invalid(StartupPacketError)
    }

    /// The greatest length field accepted, in bytes: PostgreSQL's MAX_STARTUP_PACKET_LENGTH and the field itself.
    public static let maximumLength = 10_004

    /// The greatest secret in a CancelRequest, in bytes (protocol 3.2).
    public static let maximumSecretLength = 256

    static let cancelCode: UInt32 = 1234 << 16 | 5678
    static let sslCode: UInt32 = 1234 << 16 | 5679
    static let gssEncCode: UInt32 = 1234 << 16 | 5680

    /// Reads the packet at the beginning of the bytes.
    public static func parse(_ bytes: Span<UInt8>) -> Outcome {
        if bytes.count > 0, bytes[0] == 0x16 { return .directTLS }
        var reader = MessageReader(bytes, at: 0)
        guard let field = reader.int32() else { return .incomplete(needed: 8) }
        // Checked as soon as it is there, so that rubbish is refused and never waited for.
        guard field >= 8, field <= self.maximumLength else { return .invalid(.invalidLength) }
        let length = Int(field)
        guard let code = reader.int32() else { return .incomplete(needed: 8) }
        guard bytes.count >= length else { return .incomplete(needed: length) }
        switch UInt32(bitPattern: code) {
        case self.sslCode:
            return length == 8 ? .packet(.sslRequest, length: length) : .invalid(.invalidLength)
        case self.gssEncCode:
            return length == 8 ? .packet(.gssEncRequest, length: length) : .invalid(.invalidLength)
        case self.cancelCode:
            guard (16...(12 + self.maximumSecretLength)).contains(length) else { return .invalid(.invalidCancelLength) }
            return .packet(.cancel(key: bytes.copy(8..<length)), length: length)
        case let code:
            let version = ProtocolVersion(code: code)
            guard version.major == 3 else { return .invalid(.unsupportedVersion(version)) }
            do {
                let message = try StartupMessage(version: version, parameters: bytes.extracting(8..<length))
                return .packet(.startup(message), length: length)
            } catch {
                return .invalid(error)
            }
        }
    }
}

/// Why a first packet is refused.
public enum StartupPacketError: Error, Sendable, Equatable {
    /// The length field is below 8 or above `StartupPacket.maximumLength`, or a request has a body.
    case invalidLength
    /// A CancelRequest whose secret is not 4 to 256 bytes long.
    case invalidCancelLength
    /// Neither a request nor protocol 3.
    case unsupportedVersion(ProtocolVersion)
    /// The parameters do not end with a NUL as the packet's last byte.
    case invalidLayout
    /// There is no user, or an empty one.
    case missingUser
    /// A parameter's name, the user or the database is not valid UTF-8.
    case invalidText(String)
    /// The user or the database is not in Unicode's normal form C.
    case notNormalized(String)

    /// SQLSTATE of the ErrorResponse.
    public var sqlState: String {
        switch self {
        case .invalidLength, .invalidCancelLength, .invalidLayout: SQLState.protocolViolation
        case .unsupportedVersion: SQLState.featureNotSupported
        case .missingUser, .invalidText, .notNormalized: SQLState.invalidAuthorization
        }
    }

    /// Text of the ErrorResponse.
    public var message: String {
        switch self {
        case .invalidLength: "invalid length of startup packet"
        case .invalidCancelLength: "invalid length of cancel request packet"
        case .unsupportedVersion(let version):
            "unsupported frontend protocol \(version): server supports 3.0 to \(ProtocolVersion.newest)"
        case .invalidLayout: "invalid startup packet layout: expected terminator as last byte"
        case .missingUser: "no PostgreSQL user name specified in startup packet"
        case .invalidText(let name): "invalid UTF-8 in startup parameter: \(name)"
        case .notNormalized(let name): "startup parameter is not in Unicode's normal form C: \(name)"
        }
    }
}
