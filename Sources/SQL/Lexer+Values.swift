// What literals and names say, once their quotes are gone.

extension Span<UInt8> {
    /// The text of a range; what is not valid UTF-8 is replaced by U+FFFD.
    func literalText(_ range: Range<Int>) -> String {
        var bytes: [UInt8] = []
        for index in range { bytes.append(self[index]) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A name in quotes; nil for one with escapes (`U&""`).
    func identifier(_ token: Lexer.Token) -> String? {
        guard self.byte(token.start) == UInt8(ascii: "\"") else { return nil }
        var bytes: [UInt8] = []
        var index = token.start + 1
        while index < token.end - 1 {
            if self[index] == UInt8(ascii: "\"") { index += 1 }
            bytes.append(self.byte(index))
            index += 1
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The value of a string literal of whatever notation, with its continuation on other lines; nil for bit strings and
    /// for escapes that PostgreSQL does not know either, or that name no character.
    func literal(_ token: Lexer.Token, standardConformingStrings: Bool) -> String? {
        var index = token.start
        switch self.byte(index) {
        case UInt8(ascii: "$"): return self.dollarQuoted(token)
        case UInt8(ascii: "'"):
            return self.quoted(token, from: index, escapes: standardConformingStrings ? .none : .backslash)
        default: break
        }
        let prefix = self.byte(index) | 0x20
        index += 1
        switch prefix {
        case UInt8(ascii: "e"): return self.quoted(token, from: index, escapes: .backslash)
        case UInt8(ascii: "n"):
            return self.quoted(token, from: index, escapes: standardConformingStrings ? .none : .backslash)
        case UInt8(ascii: "u"): return self.quoted(token, from: index + 1, escapes: .unicode)
        default: return nil
        }
    }

    private func dollarQuoted(_ token: Lexer.Token) -> String? {
        var tag = token.start + 1
        while tag < token.end, self[tag] != UInt8(ascii: "$") { tag += 1 }
        let length = tag + 1 - token.start
        guard token.end - length >= token.start + length else { return nil }
        return self.literalText((token.start + length)..<(token.end - length))
    }

    private enum Escapes { case none, backslash, unicode }

    /// - Parameter start: where the opening quote stands.
    private func quoted(_ token: Lexer.Token, from start: Int, escapes: Escapes) -> String? {
        var bytes: [UInt8] = []
        var index = start + 1
        while index < token.end {
            let byte = self[index]
            if byte == UInt8(ascii: "'") {
                if self.byte(index + 1) == byte && index + 1 < token.end - 1 {
                    bytes.append(byte)
                    index += 2
                } else if index == token.end - 1 {
                    return String(decoding: bytes, as: UTF8.self)
                } else if let next = Lexer.continuation(self, index + 1) {
                    index = next
                } else {
                    return nil
                }
            } else if byte == UInt8(ascii: "\\") && escapes != .none {
                let end =
                    escapes == .unicode
                    ? self.unicodeEscape(index + 1, before: token.end, &bytes)
                    : self.escape(index + 1, before: token.end, &bytes)
                guard let end else { return nil }
                index = end
            } else {
                bytes.append(byte)
                index += 1
            }
        }
        return nil
    }

    /// What stands behind a backslash of E''; returns where it ends.
    private func escape(_ start: Int, before end: Int, _ bytes: inout [UInt8]) -> Int? {
        let letter = self.byte(start)
        switch letter {
        case UInt8(ascii: "n"): bytes.append(0x0A)
        case UInt8(ascii: "t"): bytes.append(0x09)
        case UInt8(ascii: "r"): bytes.append(0x0D)
        case UInt8(ascii: "b"): bytes.append(0x08)
        case UInt8(ascii: "f"): bytes.append(0x0C)
        case UInt8(ascii: "x"):
            guard let (value, next) = self.digits(start + 1, radix: 16, atLeast: 1, atMost: 2), value != 0 else {
                return nil
            }
            bytes.append(UInt8(truncatingIfNeeded: value))
            return next
        case UInt8(ascii: "u"): return self.character(start + 1, digits: 4, &bytes)
        case UInt8(ascii: "U"): return self.character(start + 1, digits: 8, &bytes)
        case UInt8(ascii: "0")...UInt8(ascii: "7"):
            guard let (value, next) = self.digits(start, radix: 8, atLeast: 1, atMost: 3), value & 0xFF != 0 else {
                return nil
            }
            bytes.append(UInt8(truncatingIfNeeded: value))
            return next
        default: bytes.append(letter)
        }
        return start + 1 < end ? start + 1 : nil
    }

    /// What stands behind a backslash of U&''; returns where it ends.
    private func unicodeEscape(_ start: Int, before end: Int, _ bytes: inout [UInt8]) -> Int? {
        switch self.byte(start) {
        case UInt8(ascii: "\\"):
            bytes.append(UInt8(ascii: "\\"))
            return start + 1
        case UInt8(ascii: "+"): return self.character(start + 1, digits: 6, &bytes)
        default: return self.character(start, digits: 4, &bytes)
        }
    }

    private func character(_ start: Int, digits: Int, _ bytes: inout [UInt8]) -> Int? {
        guard let (value, next) = self.digits(start, radix: 16, atLeast: digits, atMost: digits), value != 0,
            let scalar = Unicode.Scalar(UInt32(truncatingIfNeeded: value))
        else { return nil }
        bytes.append(contentsOf: String(Character(scalar)).utf8)
        return next
    }

    private func digits(_ start: Int, radix: Int, atLeast: Int, atMost: Int) -> (value: Int, end: Int)? {
        var value = 0
        var index = start
        while index - start < atMost, let digit = Self.digit(self.byte(index)), digit < radix {
            value = value * radix + digit
            index += 1
        }
        return index - start >= atLeast ? (value, index) : nil
    }

    private static func digit(_ byte: UInt8) -> Int? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): Int(byte - UInt8(ascii: "a")) + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): Int(byte - UInt8(ascii: "A")) + 10
        default: nil
        }
    }
}
