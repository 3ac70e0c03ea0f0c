import Wire

/// A statement that clients have prepared: its text and parameter types, and the name it has on every server.
///
/// There is one object for each (text, parameter types) as long as a client or a server connection holds it.
public final class PreparedStatement: Sendable {
    /// Never given twice in a process.
    public let id: UInt64
    /// The Parse message behind the statement's name: the text, its NUL, and the parameter types with their count.
    public let tail: [UInt8]
    /// The name on a server.
    public let serverName: [UInt8]

    init(id: UInt64, tail: [UInt8]) {
        self.id = id
        self.tail = tail
        self.textLength = tail.firstIndex(of: 0) ?? tail.count
        self.serverName = Array("martlet_\(id)".utf8)
    }

    /// The statement's text as it came.
    public var textBytes: [UInt8] { Array(self.tail.prefix(self.textLength)) }
    /// Bytes of the text, at the beginning of `tail`.
    public let textLength: Int

    /// The statement's text for people; what is not valid UTF-8 is replaced by U+FFFD.
    public var text: String {
        String(decoding: self.tail.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// Whether the tail is these bytes.
    func hasTail(_ bytes: Span<UInt8>) -> Bool {
        let tail = self.tail
        return tail.span.equals(bytes)
    }
}
