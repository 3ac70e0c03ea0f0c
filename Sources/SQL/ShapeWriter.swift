/// Writes the shape of a text: what is left of it for statements that differ only in their literals.
///
/// The shape is SQL itself, so that it can be parsed in the text's place: comments are gone, white space is one blank
/// where two tokens would grow together, each string is `'x'`, each number `1`, each parameter `$1`. Of equal neighbours in a
/// list (`1,1,1`, `(1,'x'),(1,'x')`) two are kept, so that lists of any length have few shapes. None of this has a say in
/// the class of a statement: that depends on the kinds of nodes and on the names in its tree. One literal is such a name
/// and stays: that of `current_setting('…')`.
struct ShapeWriter: ~Copyable, ~Escapable {
    /// A list whose elements are compared: between brackets, or the statement itself.
    private struct List {
        /// Where the current element begins in the shape.
        var element: Int32 = 0
        /// Where the one in front of it begins; negative if there is none.
        var previous: Int32 = -1
        /// Equal elements in front of the current one.
        var repeats: Int32 = 0
    }

    /// What the last token was, as far as a blank behind it is concerned.
    private enum Tail { case nothing, word, number, `operator`, dot }

    private var shape: MutableSpan<UInt8>
    private(set) var count = 0
    private var tail = Tail.nothing
    /// The last token was the word UESCAPE; the literal behind it has to stay.
    private var isBehindUescape = false
    /// Lists that are open; deeper ones are written as they are.
    private var lists = InlineArray<16, List>(repeating: List())
    private var depth = 0

    /// Room that the shape of a text may need, in bytes: each token may get a blank.
    static func capacity(for text: Span<UInt8>) -> Int { 2 * text.count + 16 }

    @_lifetime(copy shape)
    private init(_ shape: consuming MutableSpan<UInt8>) {
        self.shape = shape
    }

    /// Writes the shape of a text.
    ///
    /// - Parameters:
    ///   - text: any bytes.
    ///   - shape: at least `capacity(for: text)` bytes.
    /// - Returns: the shape's length, what the comments ask for, and whether one of them asks for what there is not.
    static func write(
        _ text: Span<UInt8>, standardConformingStrings: Bool, into shape: consuming MutableSpan<UInt8>
    ) -> (count: Int, override: RouteOverride?, isHintMistaken: Bool) {
        var writer = ShapeWriter(shape)
        var lexer = Lexer(standardConformingStrings: standardConformingStrings)
        while true {
            let token = lexer.next(text)
            switch token.kind {
            case .word:
                writer.blank(.word)
                writer.copy(text, token.start, token.end)
                writer.isBehindUescape =
                    token.end &- token.start == 7 && text.hasWord("uescape", at: token.start, before: token.end)
                continue
            case .number: writer.number()
            case .string: writer.string(text, token)
            case .parameter:
                writer.blank(.word)
                writer.put(UInt8(ascii: "$"))
                writer.put(UInt8(ascii: "1"))
            case .quotedIdentifier:
                // `u & "a"` must not become `u&"a"`.
                if writer.tail == .operator { writer.put(UInt8(ascii: " ")) }
                writer.blank(.word)
                writer.copy(text, token.start, token.end)
            case .operator:
                writer.blank(.operator)
                writer.copy(text, token.start, token.end)
            case .dot:
                writer.blank(.dot)
                writer.copy(text, token.start, token.end)
            case .byte: writer.byte(text[token.start])
            case .unterminated:
                // An open quote: neither does this parse.
                writer.blank(.word)
                writer.put(UInt8(ascii: "'"))
            case .end:
                writer.finish()
                return (writer.count, lexer.override, lexer.isHintMistaken)
            }
            writer.isBehindUescape = false
        }
    }

    // MARK: Tokens

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func number() {
        // The sign of the first number of an element belongs to it: `(-1,2,-3)` is a list of numbers.
        if self.tail == .operator, self.count >= 2 {
            let sign = self.shape[self.count &- 1]
            let front = self.shape[self.count &- 2]
            if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+"),
                front == UInt8(ascii: ",") || front == UInt8(ascii: "(") || front == UInt8(ascii: "[")
            {
                self.count &-= 1
                self.tail = .nothing
            }
        }
        self.blank(.number)
        self.put(UInt8(ascii: "1"))
    }

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func string(_ text: Span<UInt8>, _ token: Lexer.Token) {
        if self.tail == .operator { self.put(UInt8(ascii: " ")) }
        self.blank(.word)
        // The parser checks the character behind UESCAPE.
        if self.isBehindUescape, token.end &- token.start == 3, text[token.start] == UInt8(ascii: "'") {
            self.copy(text, token.start, token.end)
            return
        }
        if self.isBehindCurrentSetting, self.isName(text, token) {
            self.copy(text, token.start, token.end)
            return
        }
        // UESCAPE may follow only such a literal.
        if text[token.start] | 0x20 == UInt8(ascii: "u") {
            self.put(UInt8(ascii: "U"))
            self.put(UInt8(ascii: "&"))
        }
        // Not empty: in the tree an empty text looks like none, and COPY TO '' like COPY TO STDOUT.
        self.put(UInt8(ascii: "'"))
        self.put(UInt8(ascii: "x"))
        self.put(UInt8(ascii: "'"))
    }

    /// The shape ends with `current_setting(`.
    private var isBehindCurrentSetting: Bool {
        @inline(__always)
        get {
            guard self.count >= 16, self.shape[self.count &- 1] == UInt8(ascii: "("),
                self.shape[self.count &- 2] | 0x20 == UInt8(ascii: "g")
            else { return false }
            return self.endsWithCurrentSetting()
        }
    }

    @inline(never)
    private func endsWithCurrentSetting() -> Bool {
        self.shape.span.hasWord("current_setting", at: self.count &- 16, before: self.count &- 1)
    }

    /// Whether a literal is short and plain, as the names of settings are.
    @inline(never)
    private func isName(_ text: Span<UInt8>, _ token: Lexer.Token) -> Bool {
        guard token.end &- token.start <= 66, text[token.start] == UInt8(ascii: "'") else { return false }
        var index = token.start &+ 1
        while index < token.end &- 1 {
            switch text[index] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."):
                index &+= 1
            default: return false
            }
        }
        return token.end &- token.start > 2
    }

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func byte(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "("), UInt8(ascii: "["):
            self.put(byte)
            self.depth &+= 1
            self.startList()
        case UInt8(ascii: ")"), UInt8(ascii: "]"):
            _ = self.dropRepeated(keepComma: false)
            self.depth = max(self.depth &- 1, 0)
            self.put(byte)
        case UInt8(ascii: ","):
            if !self.dropRepeated(keepComma: true) {
                self.put(byte)
                self.startElement()
            }
        case UInt8(ascii: ";"):
            self.put(byte)
            if self.depth == 0 { self.startList() }
        default:
            // No token of SQL; a parser refuses it, unless it grew together with its neighbours.
            self.blank(.word)
            self.put(byte)
            return
        }
        self.tail = .nothing
    }

    /// Semicolons at the end say nothing.
    @_lifetime(self: copy self)
    private mutating func finish() {
        if self.depth == 0 { _ = self.dropRepeated(keepComma: false) }
        while self.count > 0, self.shape[self.count &- 1] == UInt8(ascii: ";") { self.count &-= 1 }
    }

    // MARK: Lists

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func startList() {
        guard self.depth < self.lists.count else { return }
        self.lists[self.depth] = List(element: Int32(truncatingIfNeeded: self.count))
    }

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func startElement() {
        guard self.depth < self.lists.count else { return }
        self.lists[self.depth].previous = self.lists[self.depth].element
        self.lists[self.depth].element = Int32(truncatingIfNeeded: self.count)
    }

    /// Takes the element that ends here out of the shape again if the two in front of it are the same.
    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func dropRepeated(keepComma: Bool) -> Bool {
        guard self.depth < self.lists.count else { return false }
        let list = self.lists[self.depth]
        let start = Int(list.element)
        let previous = Int(list.previous)
        let length = self.count &- start
        guard previous >= 0, length == start &- 1 &- previous, self.equal(previous, start, length) else {
            self.lists[self.depth].repeats = 0
            return false
        }
        self.lists[self.depth].repeats &+= 1
        guard list.repeats > 0 else { return false }
        self.count = keepComma ? start : start &- 1
        return true
    }

    @inline(__always)
    private func equal(_ one: Int, _ other: Int, _ length: Int) -> Bool {
        var index = 0
        while index < length {
            guard self.shape[one &+ index] == self.shape[other &+ index] else { return false }
            index &+= 1
        }
        return true
    }

    // MARK: Bytes

    /// A blank in front of the next token, where it is needed.
    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func blank(_ next: Tail) {
        let isNeeded =
            switch (self.tail, next) {
            case (.word, .word), (.word, .number), (.number, .word), (.number, .number): true
            case (.operator, .operator), (.dot, .dot), (.number, .dot), (.dot, .number): true
            default: false
            }
        if isNeeded { self.put(UInt8(ascii: " ")) }
        self.tail = next
    }

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func put(_ byte: UInt8) {
        self.shape[self.count] = byte
        self.count &+= 1
    }

    @_lifetime(self: copy self)
    @inline(__always)
    private mutating func copy(_ text: Span<UInt8>, _ start: Int, _ end: Int) {
        var index = start
        while index < end {
            self.put(text[index])
            index &+= 1
        }
    }
}
