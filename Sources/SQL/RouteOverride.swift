/// Where a client wants a statement to run, whatever its class.
public enum RouteOverride: String, Sendable, CaseIterable {
    case primary, replica, auto

    /// What a comment asks for, `martlet: route=primary`; nil for any other comment and for words that mean nothing here.
    ///
    /// - Parameters:
    ///   - comment: a text that holds the comment.
    ///   - start: behind the comment's opening.
    ///   - end: where the comment's content ends.
    init?(comment text: Span<UInt8>, from start: Int, to end: Int) {
        guard let override = Self.hint(text, from: start, to: end)?.override else { return nil }
        self = override
    }

    /// The same, and whether it has words that mean nothing; nil for any other comment.
    static func hint(
        _ text: Span<UInt8>, from start: Int, to end: Int
    ) -> (override: RouteOverride?, isMistaken: Bool)? {
        var start = start
        while start < end, Lexer.isSpace(text[start]) { start &+= 1 }
        guard text.hasWord("martlet:", at: start, before: end) else { return nil }
        start &+= 8
        var found: RouteOverride?
        var isMistaken = false
        while start < end {
            var stop = start
            while stop < end, !Lexer.isSpace(text[stop]), text[stop] != UInt8(ascii: ",") { stop &+= 1 }
            if stop > start {
                let word = Self.word(text, start, stop)
                found = found ?? word
                if word == nil { isMistaken = true }
            }
            start = stop &+ 1
        }
        return (found, isMistaken || found == nil)
    }

    /// `route=primary` and the others.
    private static func word(_ text: Span<UInt8>, _ start: Int, _ stop: Int) -> RouteOverride? {
        guard text.hasWord("route=", at: start, before: stop) else { return nil }
        return Self.allCases.first { override in
            override.rawValue.utf8.count == stop &- start &- 6
                && text.hasWord(override.rawValue, at: start &+ 6, before: stop)
        }
    }
}

extension Span<UInt8> {
    /// Whether an ASCII word in lower case stands at a position, in any case, and ends in front of another position.
    func hasWord(_ word: String, at start: Int, before end: Int) -> Bool {
        var index = start
        for letter in word.utf8 {
            guard index < end, index < self.count, self[index].lowercased == letter else { return false }
            index &+= 1
        }
        return true
    }

    /// Whether an ASCII text in lower case stands anywhere, in any case.
    public func mentions(_ text: String) -> Bool {
        guard let first = text.utf8.first else { return true }
        for index in self.indices where self[index].lowercased == first {
            if self.hasWord(text, at: index, before: self.count) { return true }
        }
        return false
    }
}

extension UInt8 {
    /// An ASCII letter in lower case, anything else unchanged.
    @inline(__always)
    var lowercased: UInt8 { self &- UInt8(ascii: "A") < 26 ? self | 0x20 : self }
}
