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
        let name = name.lowercased().filter { $0.isLetter || $0.isNumber }
        switch name {
        case "utf8", "unicode": self = .utf8
        case "big5", "win950", "windows950", "gb18030", "gbk", "win936", "windows936", "johab", "sjis", "mskanji",
            "shiftjis", "win932", "windows932", "shiftjis2004", "uhc", "win949", "windows949":
            self = .mixed
        default: self = .ascii
        }
    }
}
