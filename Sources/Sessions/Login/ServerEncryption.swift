public import Settings

/// How a connection to a server becomes TLS, or does not, before anything else is said on it.
///
///     begin ──► plain
///       │ └───► handshake (direct)
///       └─SSLRequest──► asked ──'S'──► handshake
///                         └────'N'──► plain, if the mode allows it
public struct ServerEncryption: Sendable, Equatable {
    public enum Step: Sendable, Equatable {
        /// Go on in clear text.
        case plain
        /// Send SSLRequest; `answered` follows.
        case request
        case handshake
        /// Close the connection.
        case failed(String)
    }

    public let mode: SSLMode
    public let isDirect: Bool

    public init(mode: SSLMode, negotiation: SSLNegotiation = .postgres) {
        self.mode = mode
        self.isDirect = negotiation == .direct
    }

    /// The connection stands.
    ///
    /// - Parameter isUnix: it is a Unix socket, where there never is TLS.
    public func begin(isUnix: Bool) -> Step {
        if isUnix || self.mode == .disable { return .plain }
        return self.isDirect ? .handshake : .request
    }

    /// The server has answered SSLRequest. Bytes behind the answer were put there by somebody who hopes that we take
    /// them for a part of what is encrypted (CVE-2021-23222).
    public func answered(_ bytes: Span<UInt8>) -> Step {
        guard bytes.count == 1 else {
            return .failed(
                bytes.count > 0 && bytes[0] == UInt8(ascii: "E")
                    ? "server answered SSL request with an error"
                    : "received unencrypted data after SSL response")
        }
        switch bytes[0] {
        case UInt8(ascii: "S"): return .handshake
        case UInt8(ascii: "N"): return self.mode.requiresTLS ? .failed("server refused SSL") : .plain
        case UInt8(ascii: "E"): return .failed("server answered SSL request with an error")
        default: return .failed("bad answer to SSL request")
        }
    }
}
