/// Reads one SCRAM message attribute by attribute (RFC 5802, chapter 7): `name=value`, separated by commas.
struct SCRAMMessage: ~Escapable {
    /// Longest message that is read, in bytes.
    static let lengthLimit = 2048
    /// Longest nonce, the client's part and the server's together, in bytes; one part of ours has 24.
    static let nonceLimit = 1024

    let bytes: Span<UInt8>
    /// Where the next attribute begins; past the end when there is none.
    private(set) var cursor = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) throws(AuthenticationError) {
        guard bytes.count <= Self.lengthLimit else { throw .malformedMessage("\(bytes.count) bytes are too long") }
        guard !bytes.isEmpty else { throw .malformedMessage("empty message") }
        for index in bytes.indices where bytes[index] == 0 { throw .malformedMessage("zero byte in message") }
        self.bytes = bytes
    }

    /// Whether all attributes have been read. (A comma at the very end leaves an empty attribute to be read.)
    var isAtEnd: Bool { self.cursor > self.bytes.count }

    /// The name of the next attribute.
    var nextName: UInt8? {
        self.cursor < self.bytes.count ? self.bytes[self.cursor] : nil
    }

    /// Reads an attribute that must stand here.
    @_lifetime(copy self)
    mutating func value(of name: Unicode.Scalar) throws(AuthenticationError) -> Span<UInt8> {
        guard let found = self.nextName, found == UInt8(ascii: name) else {
            throw .malformedMessage("attribute \"\(name)\" expected")
        }
        return self.bytes.extracting(try self.anyValue())
    }

    /// Reads the nonce, which is printable and not empty.
    @_lifetime(copy self)
    mutating func nonce() throws(AuthenticationError) -> Span<UInt8> {
        try self.refuseMandatoryExtension()
        let nonce = try self.value(of: "r")
        guard !nonce.isEmpty else { throw .malformedMessage("empty nonce") }
        guard nonce.count <= Self.nonceLimit else { throw .malformedMessage("nonce of \(nonce.count) bytes") }
        for index in nonce.indices where !(0x21...0x7E ~= nonce[index]) {
            throw .malformedMessage("non-printable nonce")
        }
        return nonce
    }

    /// Skips optional extensions up to the attribute `name`, or up to the end.
    @_lifetime(self: copy self)
    mutating func skipExtensions(upTo name: Unicode.Scalar? = nil) throws(AuthenticationError) {
        while !self.isAtEnd {
            if let name, self.nextName == UInt8(ascii: name) { return }
            try self.refuseMandatoryExtension()
            _ = try self.anyValue()
        }
    }

    /// Ends the reading: nothing may be left.
    func finish() throws(AuthenticationError) {
        guard self.isAtEnd else { throw .malformedMessage("garbage at the end") }
    }

    private func refuseMandatoryExtension() throws(AuthenticationError) {
        if self.nextName == UInt8(ascii: "m") { throw .unsupported("SCRAM extension \"m\" is not supported") }
    }

    @_lifetime(self: copy self)
    private mutating func anyValue() throws(AuthenticationError) -> Range<Int> {
        guard let name = self.nextName, UInt8(ascii: "a")...UInt8(ascii: "z") ~= name | 0x20,
            self.cursor + 1 < self.bytes.count, self.bytes[self.cursor + 1] == UInt8(ascii: "=")
        else { throw .malformedMessage("attribute expected at byte \(self.cursor)") }
        let start = self.cursor + 2
        var end = start
        while end < self.bytes.count && self.bytes[end] != UInt8(ascii: ",") { end += 1 }
        self.cursor = end + 1
        return start..<end
    }
}

/// Writes SCRAM messages, and the text that both sides sign.
struct SCRAMText {
    private(set) var bytes: [UInt8] = []

    /// - Parameter capacity: bytes that there will probably be.
    init(capacity: Int) { self.bytes.reserveCapacity(capacity) }

    mutating func append(_ bytes: Span<UInt8>) { self.bytes.append(bytes) }

    /// Adds a part of what both sides sign, and the comma behind it.
    mutating func part(_ bytes: Span<UInt8>) {
        self.bytes.append(bytes)
        self.bytes.append(UInt8(ascii: ","))
    }

    /// Adds `name=value`, behind a comma unless it is the first one.
    mutating func attribute(_ name: Unicode.Scalar, _ value: Span<UInt8>) {
        self.begin(name)
        self.bytes.append(value)
    }

    /// Adds an attribute with a number.
    mutating func attribute(_ name: Unicode.Scalar, _ number: Int) {
        self.begin(name)
        self.bytes.append(contentsOf: String(number).utf8)
    }

    /// Adds an attribute with the base64 of `value`.
    mutating func attribute(_ name: Unicode.Scalar, base64 value: Span<UInt8>) {
        self.begin(name)
        Base64.append(value, to: &self.bytes)
    }

    private mutating func begin(_ name: Unicode.Scalar) {
        if !self.bytes.isEmpty { self.bytes.append(UInt8(ascii: ",")) }
        self.bytes.append(UInt8(ascii: name))
        self.bytes.append(UInt8(ascii: "="))
    }

    /// What both sides sign.
    static func signed(
        _ clientFirstBare: Span<UInt8>, _ serverFirst: Span<UInt8>, _ clientFinalWithoutProof: Span<UInt8>
    ) -> [UInt8] {
        var text = SCRAMText(capacity: clientFirstBare.count + serverFirst.count + clientFinalWithoutProof.count + 2)
        text.part(clientFirstBare)
        text.part(serverFirst)
        text.append(clientFinalWithoutProof)
        return text.bytes
    }
}

extension Array where Element == UInt8 {
    /// The bytes of a span, copied.
    init(copying bytes: Span<UInt8>) {
        self = unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
    }

    /// Adds the bytes of a span.
    mutating func append(_ bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBufferPointer { unsafe self.append(contentsOf: $0) }
    }
}
