/// A line `name = value` of the configuration, with the section it stands in.
struct INIEntry: Equatable {
    var section: String
    var name: String
    var value: String
    var source: SourceLine
}

/// Reads PgBouncer's ini format: sections in brackets, `name = value`, whole-line comments with `;` or `#`, `%include`.
///
/// An included file is read as if its text stood in place of the line, so the section goes on in it and behind it.
/// It goes on after errors, so that all of them are told at once.
struct INIReader {
    /// How deep files may include each other.
    static let deepestInclude = 10

    private let sections: Set<String>
    private let read: (_ path: String) -> Result<[UInt8], FileError>
    private(set) var entries: [INIEntry] = []
    private(set) var diagnostics: [Diagnostic] = []
    /// Whether all files and sections could be read.
    private(set) var isComplete = true
    private var section: String?
    /// False inside a section that is not known: its lines would only repeat the error.
    private var isKnownSection = true
    /// The files being read, the outermost first.
    private var openFiles: [String] = []

    /// Makes a reader that knows these sections and gets the bytes of files from `read`.
    init(sections: Set<String>, read: @escaping (_ path: String) -> Result<[UInt8], FileError>) {
        self.sections = sections
        self.read = read
    }

    /// Reads a file and all that it includes.
    mutating func readFile(_ path: String, includedAt source: SourceLine? = nil) {
        guard !self.openFiles.contains(path) else {
            self.isComplete = false
            self.error(source, "%include \(quoted(path)) leads back to a file that is being read")
            return
        }
        guard self.openFiles.count <= Self.deepestInclude else {
            self.isComplete = false
            self.error(source, "%include \(quoted(path)) is nested deeper than \(Self.deepestInclude) files")
            return
        }
        let bytes: [UInt8]
        switch self.read(path) {
        case .success(let contents): bytes = contents
        case .failure(let error):
            self.isComplete = false
            self.error(source, "cannot read \(quoted(path)): \(error.reason)")
            return
        }
        self.openFiles.append(path)
        defer { self.openFiles.removeLast() }
        var number = 0
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            self.readLine(number == 1 ? Self.withoutByteOrderMark(line) : line, SourceLine(file: path, line: number))
        }
    }

    private mutating func readLine(_ bytes: ArraySlice<UInt8>, _ source: SourceLine) {
        let blanks: Set<UInt8> = [0x20, 0x09, 0x0B, 0x0C, 0x0D]
        let start = bytes.drop { blanks.contains($0) }
        // A comment may be in any encoding.
        guard let first = start.first, first != UInt8(ascii: ";"), first != UInt8(ascii: "#") else { return }
        guard let text = String(validating: start, as: UTF8.self), !start.contains(0) else {
            self.error(source, "not valid UTF-8, or a zero byte")
            return
        }
        let line = ValueText.trimmed(text)
        switch line.first {
        case "[": self.readSection(line, source)
        case "%": self.readDirective(line, source)
        default: self.readEntry(line, source)
        }
    }

    private mutating func readSection(_ line: String, _ source: SourceLine) {
        guard line.last == "]" else {
            self.error(source, "a section must be written as [name] on a line of its own")
            return
        }
        let name = ValueText.trimmed(line.dropFirst().dropLast())
        self.section = name
        self.isKnownSection = self.sections.contains(name)
        if !self.isKnownSection {
            self.isComplete = false
            let suggestion = NearestName.suggestion(for: name, in: self.sections.sorted())
            self.error(source, "unknown section [\(name)]\(suggestion)")
        }
    }

    private mutating func readDirective(_ line: String, _ source: SourceLine) {
        let directive = line.prefix { !ValueText.isBlank($0) }
        guard directive == "%include" else {
            self.error(source, "unknown directive \(quoted(String(directive))); there is only %include")
            return
        }
        let path = ValueText.trimmed(line.dropFirst(directive.count))
        guard !path.isEmpty else {
            self.error(source, "%include needs the name of a file")
            return
        }
        self.readFile(path, includedAt: source)
    }

    private mutating func readEntry(_ line: String, _ source: SourceLine) {
        guard let (name, rest) = Self.splitName(line), rest.first == "=" else {
            self.error(
                source, "expected name = value; a name with other characters than letters, digits, _.-* needs \"…\"")
            return
        }
        guard let section = self.section else {
            self.error(source, "\(quoted(name)) stands before the first section")
            return
        }
        guard self.isKnownSection else { return }
        let value = ValueText.trimmed(rest.dropFirst())
        self.entries.append(INIEntry(section: section, name: name, value: value, source: source))
    }

    /// Takes the name off a line, in double quotes (two for one in it) or without, and the blanks behind it.
    private static func splitName(_ line: String) -> (name: String, rest: Substring)? {
        var name = ""
        var rest = line[...]
        if rest.first == "\"" {
            rest = rest.dropFirst()
            while true {
                let part = rest.prefix { $0 != "\"" }
                name += part
                rest = rest.dropFirst(part.count)
                guard rest.first == "\"" else { return nil }
                rest = rest.dropFirst()
                guard rest.first == "\"" else { break }
                name += "\""
                rest = rest.dropFirst()
            }
        } else {
            name = String(rest.prefix { $0.isLetter || $0.isNumber || "_.-*".contains($0) })
            rest = rest.dropFirst(name.count)
        }
        return name.isEmpty ? nil : (name, rest.drop { ValueText.isBlank($0) })
    }

    private static func withoutByteOrderMark(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        line.starts(with: [0xEF, 0xBB, 0xBF]) ? line.dropFirst(3) : line
    }

    private mutating func error(_ source: SourceLine?, _ message: String) {
        self.diagnostics.append(Diagnostic(.error, at: source, message))
    }
}
