/// What is to be known of a client's encoding to read SQL in it.
/// https://www.postgresql.org/docs/current/multibyte.html
public enum ClientEncoding: Sendable {
    case utf8
    /// A byte below 128 is always the ASCII character. SQL_ASCII is one: what its other bytes are nobody knows.
    case ascii
    /// Such a byte may be part of another character.
    case mixed

    /// - Parameter name: the value of client_encoding, in any of its spellings.
    init(_ name: String) {
        switch ParameterValues.encoding(name) {
        case "UTF8": self = .utf8
        case "BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC": self = .mixed
        default: self = .ascii
        }
    }
}
