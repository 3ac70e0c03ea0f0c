/// Which names of the operating system, or of certificates, may log in as which users (PostgreSQL's manual, "User Name
/// Maps").
///
/// Lines are `map-name system-name user`. A system name that begins with `/` is a regular expression, whose first part in
/// parentheses the user names as `\1`; a user may be `all`.
public struct IdentMaps: Sendable, Equatable {
    private struct Entry: Sendable, Equatable {
        enum SystemName: Equatable {
            case name(String)
            case pattern(NamePattern)
        }

        let system: SystemName
        let user: RuleName
    }

    /// A user as a line names it.
    private enum RuleName: Sendable, Equatable {
        case all
        case name(String)
        /// What stands before and behind `\1`.
        case withCapture(String, String)
    }

    private var maps: [String: [Entry]] = [:]

    /// No maps.
    public init() {}

    /// Reads a whole file.
    ///
    /// - Parameter read: gives the bytes of a file that is named by `@`.
    /// - Returns: the maps, and one `file:line: …` for each line that is wrong.
    public static func parse(
        _ bytes: Span<UInt8>, file: String, read: @escaping (String) -> Result<[UInt8], any Error>
    ) -> (maps: IdentMaps, problems: [String]) {
        var maps = IdentMaps()
        let lines = RuleFile(bytes, name: file, read: read)
        var problems = lines.problems
        for line in lines.lines {
            do {
                try maps.add(line)
            } catch {
                problems.append("\(file):\(line.number): \(error.text)")
            }
        }
        return (maps, problems)
    }

    private mutating func add(_ line: RuleLine) throws(RuleError) {
        guard line.fields.count == 3 else { throw RuleError("a line has a map, a system name and a user") }
        let words = line.fields.compactMap { $0.count == 1 ? $0[0] : nil }
        guard words.count == 3 else { throw RuleError("a list has no place here: one name for each line") }
        let user = words[2]
        guard user.isQuoted || !user.text.hasPrefix("+") else {
            throw RuleError("\(user.text): membership in a role is not known here, name the users")
        }
        guard !user.text.hasPrefix("/") else {
            throw RuleError("a regular expression for the user is not supported")
        }
        let system = words[1]
        let entry: Entry
        if system.text.hasPrefix("/") {
            let pattern = try NamePattern(String(system.text.dropFirst()))
            entry = Entry(system: .pattern(pattern), user: Self.user(user))
            if case .withCapture = entry.user, pattern.captures == 0 {
                throw RuleError("\(user.text): the regular expression has no part in parentheses")
            }
        } else {
            let isAll = user.isKeyword("all")
            entry = Entry(system: .name(system.text), user: isAll ? .all : .name(user.text))
        }
        self.maps[words[0].text, default: []].append(entry)
    }

    private static func user(_ token: RuleToken) -> RuleName {
        if token.isKeyword("all") { return .all }
        let text = token.text
        var index = text.startIndex
        while index < text.endIndex {
            if text[index...].hasPrefix("\\1") {
                return .withCapture(String(text[..<index]), String(text[text.index(index, offsetBy: 2)...]))
            }
            index = text.index(after: index)
        }
        return .name(text)
    }

    /// Whether there is a map of this name.
    func contains(_ map: String) -> Bool { self.maps[map] != nil }

    /// Whether `systemName` may log in as `user`.
    ///
    /// - Parameter map: the rule's `map=`; without one both names have to be the same.
    public func allow(_ systemName: String, as user: String, map: String?) -> Bool {
        // By bytes: to Unicode the sign for Kelvin is a K, to PostgreSQL these are two users.
        guard let map else { return systemName.utf8.elementsEqual(user.utf8) }
        return self.maps[map]?.contains { Self.allows($0, systemName, user) } ?? false
    }

    private static func allows(_ entry: Entry, _ systemName: String, _ user: String) -> Bool {
        let capture: String
        switch entry.system {
        case .name(let name):
            guard name.utf8.elementsEqual(systemName.utf8) else { return false }
            capture = ""
        case .pattern(let pattern):
            guard let found = pattern.firstCapture(in: systemName) else { return false }
            capture = found
        }
        switch entry.user {
        case .all: return true
        case .name(let name): return name.utf8.elementsEqual(user.utf8)
        case .withCapture(let front, let behind): return (front + capture + behind).utf8.elementsEqual(user.utf8)
        }
    }
}
