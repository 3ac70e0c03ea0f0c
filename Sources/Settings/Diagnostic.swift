/// A place in the configuration: the file as it was named, and the line, counted from 1.
public struct SourceLine: Sendable, Hashable, CustomStringConvertible {
    public var file: String
    public var line: Int

    public var description: String { "\(self.file):\(self.line)" }

    /// Makes a place of its file and line.
    public init(file: String, line: Int) {
        self.file = file
        self.line = line
    }
}

/// One thing that reading the configuration has to say to the administrator.
public struct Diagnostic: Sendable, Equatable, CustomStringConvertible {
    /// How bad it is; an `error` keeps the configuration from being used.
    public enum Severity: String, Sendable, Comparable {
        case note
        case warning
        case error

        public static func < (left: Self, right: Self) -> Bool {
            left.rank < right.rank
        }

        private var rank: Int {
            switch self {
            case .note: 0
            case .warning: 1
            case .error: 2
            }
        }
    }

    public var severity: Severity
    /// The file concerned, or nil when there is none.
    public var file: String?
    /// The line concerned, counted from 1, or nil when the whole file is meant.
    public var line: Int?
    /// One sentence without a full stop. Contains no password.
    public var message: String

    /// Makes a diagnostic about a line of a file, a whole file, or neither.
    public init(_ severity: Severity, file: String? = nil, line: Int? = nil, _ message: String) {
        self.severity = severity
        self.file = file
        self.line = line
        self.message = message
    }

    init(_ severity: Severity, at source: SourceLine?, _ message: String) {
        self.init(severity, file: source?.file, line: source?.line, message)
    }

    /// `martlet.ini:12: unknown key …`; what is not an error says so after the place.
    public var description: String {
        var text = ""
        if let file = self.file {
            text += self.line.map { "\(file):\($0): " } ?? "\(file): "
        }
        if self.severity != .error {
            text += "\(self.severity.rawValue): "
        }
        return text + self.message
    }
}

/// A text in double quotes for a message: control characters and what cannot be seen escaped, a long one cut.
func quoted(_ text: String) -> String {
    let longest = 80
    var escaped = ""
    for scalar in text.unicodeScalars.prefix(longest) {
        escaped +=
            scalar == "\"" || scalar == "\\" || scalar.properties.generalCategory == .control
            ? scalar.escaped(asASCII: false) : HarmlessText.line(String(scalar))
    }
    return text.unicodeScalars.count > longest ? "\"\(escaped)…\"" : "\"\(escaped)\""
}
