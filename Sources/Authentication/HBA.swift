/// An HBA file: rules about who may connect and how, of which the first that fits counts (PostgreSQL's manual, "The
/// pg_hba.conf File").
public struct HBA: Sendable, Equatable {
    public let rules: [HBARule]
    public let identMaps: IdentMaps

    /// No rules: nobody may connect.
    public init() {
        self.rules = []
        self.identMaps = IdentMaps()
    }

    /// What the rules say about a client.
    public enum Verdict: Sendable, Equatable {
        case rule(HBARule)
        /// No rule is about it: it may not connect.
        case none
        /// A rule asks for the name of the client's host: look it up and ask again.
        case needsHostName
    }

    /// - Parameter interfaces: the proxy's own addresses and their networks; only called if a rule is about them.
    public func verdict(on client: HBAClient, interfaces: () -> [Network]) -> Verdict {
        for rule in self.rules where rule.fits(client) {
            switch rule.fitsAddress(of: client, interfaces) {
            case nil: return .needsHostName
            case true?: return .rule(rule)
            case false?: continue
            }
        }
        return .none
    }

    /// Reads a whole file.
    ///
    /// - Parameters:
    ///   - file: its name, for messages, and for the files that it names by `@`.
    ///   - identMaps: what `map=` may name.
    ///   - read: gives the bytes of a file that is named by `@`.
    /// - Returns: the rules, nil if a line is wrong: without it the others might let in whom it keeps out; and one
    ///   `file:line: …` for each such line.
    public static func parse(
        _ bytes: Span<UInt8>, file: String, identMaps: IdentMaps = IdentMaps(),
        read: @escaping (String) -> Result<[UInt8], any Error>
    ) -> (hba: HBA?, problems: [String]) {
        let lines = RuleFile(bytes, name: file, read: read)
        var problems = lines.problems
        var rules: [HBARule] = []
        for line in lines.lines {
            do throws(RuleError) {
                let rule = try HBARule(line, file: file)
                if let map = rule.map, !identMaps.contains(map) {
                    throw RuleError("map=\(map): there is no such map in auth_ident_file")
                }
                rules.append(rule)
            } catch {
                problems.append("\(file):\(line.number): \(error.text)")
            }
        }
        guard problems.isEmpty else { return (nil, problems) }
        return (HBA(rules: rules, identMaps: identMaps), [])
    }

    private init(rules: [HBARule], identMaps: IdentMaps) {
        self.rules = rules
        self.identMaps = identMaps
    }
}
