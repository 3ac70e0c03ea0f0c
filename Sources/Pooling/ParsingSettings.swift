/// The settings of a session that say what the text of a statement means when a server reads it: which instant a literal
/// is, where a string ends, which table a name stands for. A statement is the same for two clients only if these are.
///
/// What is known of them is what servers report, and what clients have asked for in their startup packets.
public final class ParsingSettings: Sendable, Equatable {
    /// Ordered by key.
    public let parameters: [Parameter]
    let hash: UInt32

    /// Nothing is known.
    public static let none = ParsingSettings([])

    /// - Parameter parameters: a session's settings, ordered by key; those that do not matter are left out.
    init(_ parameters: [Parameter]) {
        self.parameters = parameters.filter { Self.names.contains($0.key) }
        var hasher = Hasher()
        for parameter in self.parameters {
            hasher.combine(parameter.key)
            hasher.combine(parameter.value)
        }
        self.hash = UInt32(truncatingIfNeeded: hasher.finalize())
    }

    public static func == (a: ParsingSettings, b: ParsingSettings) -> Bool {
        a === b || (a.hash == b.hash && a.parameters == b.parameters)
    }

    /// What literals, operators and names depend on, in lower case, and what immutable functions do: a plan has their
    /// results in it. Settings that are looked at each time a statement runs are not among them.
    public static let names: Set<String> = [
        "array_nulls", "backslash_quote", "bytea_output", "client_encoding", "datestyle",
        "default_text_search_config", "escape_string_warning", "extra_float_digits", "intervalstyle", "lc_monetary",
        "lc_numeric", "lc_time",
        "operator_precedence_warning", "quote_all_identifiers", "restrict_nonsystem_relation_kind", "role",
        "row_security", "search_path",
        "session_authorization", "session_replication_role", "sql_inheritance", "standard_conforming_strings",
        "timezone", "timezone_abbreviations", "transform_null_equals", "xmlbinary", "xmloption",
    ]

    /// What takes a session from these settings to others; empty when they are the same.
    public func changes(to other: ParsingSettings) -> [ParameterChange] {
        if self == other { return [] }
        var changes: [ParameterChange] = []
        for parameter in other.parameters where !parameter.isReadOnly {
            if !self.parameters.contains(where: { $0.key == parameter.key && $0.value == parameter.value }) {
                changes.append(.set(parameter))
            }
        }
        for parameter in self.parameters where !parameter.isReadOnly {
            if !other.parameters.contains(where: { $0.key == parameter.key }) { changes.append(.reset(parameter.name)) }
        }
        return changes
    }
}
