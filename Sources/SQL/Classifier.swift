/// Finds the class of a statement: by its shape when that has been seen before, else by parsing.
///
/// One for each reactor and database; not shared between threads. Memory is bounded by the number of shapes and their
/// length together.
public struct Classifier: ~Copyable {
    /// What a text is, with what its comment says about itself.
    public struct Result {
        public let statementClass: StatementClass
        /// `/* martlet: route=primary */` in front of or within the text.
        public let override: RouteOverride?
        /// Its shape was not known, so it was parsed.
        public let isMiss: Bool
        /// A comment begins with `martlet:` and has words that mean nothing.
        public let isHintMistaken: Bool

        public init(
            statementClass: StatementClass, override: RouteOverride?, isMiss: Bool, isHintMistaken: Bool = false
        ) {
            self.isHintMistaken = isHintMistaken
            self.statementClass = statementClass
            self.override = override
            self.isMiss = isMiss
        }
    }

    /// Bytes that a shape may have on average before the cache holds fewer of them.
    private static let bytesPerShape = 256

    /// Forgets all shapes when the catalogue is another.
    public var catalogue: Catalogue {
        didSet { if self.catalogue != oldValue { self.cache.removeAll() } }
    }

    private let textLimit: Int
    private var cache: ShapeCache
    /// Where shapes are written; as long as the longest text needed so far.
    private var buffer: [UInt8] = []

    /// - Parameters:
    ///   - textLimit: bytes, at most 256 MB; a longer text is not looked at (`StatementClass.tooLong`).
    ///   - shapeLimit: shapes that are kept, of 256 bytes on average; the least recently used are forgotten.
    public init(catalogue: Catalogue, textLimit: Int = 64 << 10, shapeLimit: Int = 10_000) {
        self.catalogue = catalogue
        self.textLimit = min(textLimit, 256 << 20)
        self.cache = ShapeCache(countLimit: shapeLimit, byteLimit: max(shapeLimit, 1) * Self.bytesPerShape)
    }

    /// The class of a text.
    ///
    /// - Parameters:
    ///   - text: the SQL without its NUL; need not be valid UTF-8.
    ///   - standardConformingStrings: whether a backslash in a plain string literal stands for itself, as the session
    ///     has it.
    ///   - isUTF8: whether the text is. In one that is not, names of ASCII characters alone can be compared with the
    ///     catalogue's.
    ///   - mayParse: false if there is no time for a shape that is not known (`StatementClass.notParsed`).
    public mutating func classify(
        _ text: Span<UInt8>, standardConformingStrings: Bool, mayParse: Bool = true, isUTF8: Bool = true
    ) -> Result {
        guard text.count <= self.textLimit else {
            return Result(statementClass: .tooLong, override: nil, isMiss: false)
        }
        // Out of `self`, so that the cache may change while the shape is looked at.
        var buffer = self.takeBuffer(for: text)
        defer { self.buffer = buffer }
        let (count, override, isMistaken) = ShapeWriter.write(
            text, standardConformingStrings: standardConformingStrings, into: buffer.mutableSpan)
        let shape = buffer.span.extracting(0..<count)
        if !isUTF8 && !shape.isASCII {
            return Result(statementClass: .foreignText, override: override, isMiss: false)
        }
        let hash = self.cache.hash(shape)
        if let known = self.cache.find(shape, hash: hash) {
            return Result(statementClass: known, override: override, isMiss: false, isHintMistaken: isMistaken)
        }
        guard mayParse else {
            return Result(statementClass: .notParsed, override: override, isMiss: false, isHintMistaken: isMistaken)
        }
        let statementClass = TreeClassifier.classify(shape, self.catalogue)
        self.cache.insert(shape, hash: hash, statementClass)
        return Result(statementClass: statementClass, override: override, isMiss: true, isHintMistaken: isMistaken)
    }

    /// A replica has refused it: statements of its shape count as writes from now on.
    ///
    /// - Parameter reason: the words of the refusal.
    public mutating func refused(_ text: Span<UInt8>, standardConformingStrings: Bool, reason: String) {
        guard text.count <= self.textLimit else { return }
        var buffer = self.takeBuffer(for: text)
        defer { self.buffer = buffer }
        let (count, _, _) = ShapeWriter.write(
            text, standardConformingStrings: standardConformingStrings, into: buffer.mutableSpan)
        let shape = buffer.span.extracting(0..<count)
        let statementClass = StatementClass(kind: .write, reason: "a replica refused it: \(reason)")
        self.cache.insert(shape, hash: self.cache.hash(shape), statementClass)
    }

    /// Shapes known.
    public var count: Int { self.cache.count }

    private mutating func takeBuffer(for text: Span<UInt8>) -> [UInt8] {
        var buffer: [UInt8] = []
        swap(&buffer, &self.buffer)
        let capacity = ShapeWriter.capacity(for: text)
        if buffer.count < capacity { buffer = [UInt8](repeating: 0, count: max(capacity, 1024)) }
        return buffer
    }
}

extension Span<UInt8> {
    /// Whether all bytes are below 128.
    public var isASCII: Bool {
        var index = 0
        while index < self.count {
            guard self[index] < 0x80 else { return false }
            index &+= 1
        }
        return true
    }
}
