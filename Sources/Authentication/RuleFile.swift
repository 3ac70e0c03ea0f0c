/// One word of a rule file: of `pg_hba.conf`, or of an ident map.
struct RuleToken: Equatable {
    var text: String
    /// Words in double quotes have no special meaning, whatever they say.
    var isQuoted = false

    /// Whether it is this special word.
    func isKeyword(_ word: String) -> Bool { !self.isQuoted && self.text == word }
}

/// One rule in its words.
struct RuleLine: Equatable {
    /// Counted from 1; the first, of a rule that goes over several lines.
    var number: Int
    /// Fields have blanks between them, the words of a field commas.
    var fields: [[RuleToken]]
}

/// What is wrong with a rule, without its place.
struct RuleError: Error, Equatable {
    let text: String

    init(_ text: String) { self.text = text }
}

/// Cuts a rule file into words as PostgreSQL does: `#` begins a comment, a backslash at the end of a line goes on with the
/// next, a double quote inside quotes is doubled.
struct RuleFile {
    /// How deep files may name files by `@`, as in PostgreSQL.
    static let depthLimit = 10
    /// Most words in a rule, those of files that it names included.
    static let wordLimit = 100_000

    let name: String
    private(set) var lines: [RuleLine] = []
    /// `file:line: …` for each line that cannot be read.
    private(set) var problems: [String] = []
    private let read: (String) -> Result<[UInt8], any Error>

    /// - Parameter read: gives the bytes of a file that is named by `@`.
    init(_ bytes: Span<UInt8>, name: String, read: @escaping (String) -> Result<[UInt8], any Error>) {
        self.name = name
        self.read = read
        for line in Self.lines(bytes) { self.add(line.number, line.bytes) }
    }

    private mutating func add(_ number: Int, _ bytes: [UInt8]) {
        do {
            let fields = try Self.fields(bytes)
            guard !fields.isEmpty else { return }
            var expanded: [[RuleToken]] = []
            var left = Self.wordLimit
            for field in fields { expanded.append(try self.expand(field, in: self.name, depth: 1, &left)) }
            self.lines.append(RuleLine(number: number, fields: expanded))
        } catch {
            self.problems.append("\(self.name):\(number): \(error.text)")
        }
    }

    /// Puts the words of files in the place of `@file`.
    private func expand(
        _ field: [RuleToken], in file: String, depth: Int, _ left: inout Int
    ) throws(RuleError) -> [RuleToken] {
        var result: [RuleToken] = []
        for token in field {
            guard !token.isQuoted, token.text.hasPrefix("@"), token.text.count > 1 else {
                left -= 1
                guard left >= 0 else { throw RuleError("more than \(Self.wordLimit) words") }
                result.append(token)
                continue
            }
            guard depth <= Self.depthLimit else { throw RuleError("files name each other by @ too deeply") }
            let path = Self.path(String(token.text.dropFirst()), in: file)
            let bytes: [UInt8]
            switch self.read(path) {
            case .success(let found): bytes = found
            case .failure(let error): throw RuleError("cannot read \(path): \(error)")
            }
            for line in Self.lines(bytes.span) {
                do {
                    for field in try Self.fields(line.bytes) {
                        result += try self.expand(field, in: path, depth: depth + 1, &left)
                    }
                } catch {
                    throw depth == 1 ? RuleError("\(path):\(line.number): \(error.text)") : error
                }
            }
        }
        return result
    }

    /// A path that is not absolute begins where the file is that names it.
    private static func path(_ path: String, in file: String) -> String {
        guard !path.hasPrefix("/"), let slash = file.lastIndex(of: "/") else { return path }
        return file[...slash] + path
    }

    private static func lines(_ bytes: Span<UInt8>) -> [(number: Int, bytes: [UInt8])] {
        var lines: [(number: Int, bytes: [UInt8])] = []
        var current: [UInt8] = []
        var number = 1
        var first = 1
        // How much of `current` is of lines before the one that is read: their backslashes go on with nothing more.
        var continued = 0
        for index in bytes.indices {
            guard bytes[index] == UInt8(ascii: "\n") else {
                current.append(bytes[index])
                continue
            }
            if current.last == UInt8(ascii: "\r") { current.removeLast() }
            number += 1
            if current.count > continued && current.last == UInt8(ascii: "\\") {
                current.removeLast()
                continued = current.count
                continue
            }
            lines.append((first, current))
            current = []
            continued = 0
            first = number
        }
        if !current.isEmpty { lines.append((first, current)) }
        return lines
    }

    /// Cuts a line into fields; without remarks `#` is a character like any other.
    static func fields(_ line: [UInt8], hasRemarks: Bool = true) throws(RuleError) -> [[RuleToken]] {
        var fields: [[RuleToken]] = []
        var goesOn = false
        var cursor = 0
        while let (bytes, isQuoted) = try Self.word(line, &cursor, hasRemarks) {
            guard !bytes.contains(0), let text = String(validating: bytes, as: UTF8.self) else {
                throw RuleError("is not valid UTF-8")
            }
            let token = RuleToken(text: text, isQuoted: isQuoted)
            if goesOn, !fields.isEmpty { fields[fields.count - 1].append(token) } else { fields.append([token]) }
            goesOn = cursor < line.count && line[cursor] == UInt8(ascii: ",")
        }
        return fields
    }

    /// The next word; nil at the end of the line.
    private static func word(
        _ line: [UInt8], _ cursor: inout Int, _ hasRemarks: Bool
    ) throws(RuleError) -> (bytes: [UInt8], isQuoted: Bool)? {
        while cursor < line.count, Self.isBlank(line[cursor]) || line[cursor] == UInt8(ascii: ",") { cursor += 1 }
        func isRemark(_ byte: UInt8) -> Bool { hasRemarks && byte == UInt8(ascii: "#") }
        guard cursor < line.count, !isRemark(line[cursor]) else { return nil }
        let isQuoted = line[cursor] == UInt8(ascii: "\"")
        var bytes: [UInt8] = []
        var isInside = false
        var wasQuote = false
        while cursor < line.count {
            let byte = line[cursor]
            if !isInside, Self.isBlank(byte) || byte == UInt8(ascii: ",") || isRemark(byte) { break }
            if byte == UInt8(ascii: "\"") {
                isInside.toggle()
                // The second of two stands for one.
                if isInside && wasQuote { bytes.append(byte) }
                wasQuote = true
            } else {
                wasQuote = false
                bytes.append(byte)
            }
            cursor += 1
        }
        guard !isInside else { throw RuleError("a double quote is not closed") }
        return (bytes, isQuoted)
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
    }
}
