/// What a server's authentication message asks for.
public enum AuthenticationRequest: Sendable, Equatable {
    case ok
    case cleartextPassword
    /// - Parameter salt: 4 bytes.
    case md5Password(salt: [UInt8])
    case sasl(mechanisms: [String])
    case saslContinue([UInt8])
    case saslFinal([UInt8])
    /// A kind that is not served: Kerberos, GSS, SSPI or an unknown one.
    case other(Int32)

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let kind = reader.int32() else { return nil }
        switch kind {
        case 0: self = .ok
        case 3: self = .cleartextPassword
        case 5:
            guard let salt = reader.take(4), reader.left == 0 else { return nil }
            self = .md5Password(salt: message.copy(salt))
        case 10:
            var mechanisms: [String] = []
            while true {
                guard let name = reader.cString() else { return nil }
                if name.isEmpty { break }
                mechanisms.append(message.text(name))
            }
            self = .sasl(mechanisms: mechanisms)
        case 11: self = .saslContinue(message.copy(reader.rest))
        case 12: self = .saslFinal(message.copy(reader.rest))
        default: self = .other(kind)
        }
    }
}

/// What a client answers to an authentication request for a password.
public enum PasswordMessage {
    /// The password, or its MD5 answer; nil when the message is malformed.
    public static func password(_ message: Span<UInt8>) -> [UInt8]? {
        var reader = MessageReader(message)
        guard let range = reader.cString(), reader.left == 0 else { return nil }
        return message.copy(range)
    }
}

/// A client's first answer to an authentication request for SASL; the later ones are their body's bytes.
public struct SASLInitialResponse: Sendable, Equatable {
    public let mechanism: String
    /// The mechanism's first message; nil when the client sends none.
    public let data: [UInt8]?

    /// Reads a whole message, header included; nil when it is malformed.
    public init?(_ message: Span<UInt8>) {
        var reader = MessageReader(message)
        guard let mechanism = reader.cString(), let count = reader.int32() else { return nil }
        self.mechanism = message.text(mechanism)
        if count == -1 {
            guard reader.left == 0 else { return nil }
            self.data = nil
        } else {
            guard let data = reader.take(Int(count)), reader.left == 0 else { return nil }
            self.data = message.copy(data)
        }
    }
}
