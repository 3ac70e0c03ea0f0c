// Where things end, and what a character may be.

extension Lexer {
    /// Where a literal goes on that was closed in front of `index`: behind a quote that only white space with a line break,
    /// and line comments, divide from it.
    static func continuation(_ text: Span<UInt8>, _ index: Int) -> Int? {
        var index = index
        var hasNewline = false
        while index < text.count {
            let byte = text[index]
            if byte == UInt8(ascii: "'") { return hasNewline ? index &+ 1 : nil }
            if byte == UInt8(ascii: "-"), text.byte(index &+ 1) == UInt8(ascii: "-") {
                index = Self.lineEnd(text, index)
                continue
            }
            guard Self.isSpace(byte) else { return nil }
            hasNewline = hasNewline || Self.isNewline(byte)
            index &+= 1
        }
        return nil
    }

    /// Behind a number: decimal, with fraction and exponent, and the notations of PostgreSQL 16 (`0x1F`, `1_000`).
    static func numberEnd(_ text: Span<UInt8>, _ start: Int) -> Int {
        if text[start] == UInt8(ascii: "0"), let end = Self.radixEnd(text, start &+ 1) { return end }
        var index = Self.digitsEnd(text, start)
        // `1..2` is a range of PL/pgSQL.
        if text.byte(index) == UInt8(ascii: "."), text.byte(index &+ 1) != UInt8(ascii: ".") {
            index = Self.digitsEnd(text, index &+ 1)
        }
        if text.byte(index) | 0x20 == UInt8(ascii: "e") {
            let sign = text.byte(index &+ 1)
            let digits = sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") ? index &+ 2 : index &+ 1
            if Self.isDigit(text.byte(digits)) { index = Self.digitsEnd(text, digits) }
        }
        return index
    }

    static func digitsEnd(_ text: Span<UInt8>, _ start: Int) -> Int {
        var index = start
        while Self.isDigit(text.byte(index))
            || text.byte(index) == UInt8(ascii: "_") && index > start && Self.isDigit(text.byte(index &+ 1))
        { index &+= 1 }
        return index
    }

    static func radixEnd(_ text: Span<UInt8>, _ start: Int) -> Int? {
        let radix = text.byte(start) | 0x20
        guard radix == UInt8(ascii: "x") || radix == UInt8(ascii: "o") || radix == UInt8(ascii: "b") else { return nil }
        var index = start &+ 1
        while true {
            let byte = text.byte(index)
            let isHex =
                radix == UInt8(ascii: "x") && byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "f")
            guard Self.isDigit(byte) || isHex || byte == UInt8(ascii: "_") else { break }
            index &+= 1
        }
        return index > start &+ 1 ? index : nil
    }

    /// Behind a run of operator characters, which a comment ends.
    static func operatorEnd(_ text: Span<UInt8>, _ start: Int) -> Int {
        var index = start &+ 1
        while index < text.count {
            let byte = text[index]
            guard Self.isOperator(byte) else { break }
            let next = text.byte(index &+ 1)
            if byte == UInt8(ascii: "-") && next == byte { break }
            if byte == UInt8(ascii: "/") && next == UInt8(ascii: "*") { break }
            index &+= 1
        }
        return index
    }

    static func lineEnd(_ text: Span<UInt8>, _ start: Int) -> Int {
        var index = start
        while index < text.count, !Self.isNewline(text[index]) { index &+= 1 }
        return index
    }

    // MARK: Characters

    @inline(__always)
    static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte >= 0x09 && byte <= 0x0D }

    @inline(__always)
    static func isNewline(_ byte: UInt8) -> Bool { byte == 0x0A || byte == 0x0D }

    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }

    /// Letters, `_` and every byte that is not ASCII.
    @inline(__always)
    static func isWordStart(_ byte: UInt8) -> Bool {
        (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte == UInt8(ascii: "_") || byte >= 0x80
    }

    @inline(__always)
    static func isTagPart(_ byte: UInt8) -> Bool { Self.isWordStart(byte) || Self.isDigit(byte) }

    @inline(__always)
    static func isWordPart(_ byte: UInt8) -> Bool { Self.isTagPart(byte) || byte == UInt8(ascii: "$") }

    @inline(__always)
    static func isOperator(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "@"), UInt8(ascii: "#"), UInt8(ascii: "^"),
            UInt8(ascii: "&"), UInt8(ascii: "|"), UInt8(ascii: "`"), UInt8(ascii: "?"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "/"), UInt8(ascii: "%"), UInt8(ascii: "<"),
            UInt8(ascii: ">"), UInt8(ascii: "="):
            true
        default: false
        }
    }
}

extension Span<UInt8> {
    /// The byte at a position, 0 behind the end: no rule of the lexer has a use for NUL.
    @inline(__always)
    func byte(_ index: Int) -> UInt8 { index < self.count ? self[index] : 0 }
}
