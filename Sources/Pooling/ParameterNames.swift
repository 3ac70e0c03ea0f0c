import Wire

/// What is known of settings without asking a server.
public enum ParameterNames {
    /// Keys of what a server reports and nobody can set, or not without changing who one is.
    static let readOnly: Set<String> = [
        "server_version", "server_version_num", "server_encoding", "is_superuser", "session_authorization",
        "integer_datetimes", "in_hot_standby",
    ]

    /// Keys of settings that are lists of names and can be set in a session: in `SET search_path = '"$user", public'` the
    /// constant is one name.
    static let lists: Set<String> = ["search_path", "temp_tablespaces", "session_preload_libraries"]

    /// The longest name of a setting, in bytes.
    public static let maximumLength = 127

    /// Whether a name can be that of a setting: letters, digits, `_` and `$`, in parts between dots.
    ///
    /// Every other name is unknown to every server, and would need quoting.
    public static func isValid(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= self.maximumLength else { return false }
        return name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { part in
            guard let first = part.first, self.isLetter(first) else { return false }
            return part.allSatisfy { self.isLetter($0) || (48...57).contains($0) || $0 == UInt8(ascii: "$") }
        }
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (65...90).contains(byte) || (97...122).contains(byte) || byte == UInt8(ascii: "_")
    }
}

/// Why settings of a startup packet, or what a server reports, are refused.
public enum ParameterError: Error, Sendable, Equatable {
    case unknown(name: String)
    case readOnly(name: String)
    case invalidValue(name: String, value: String)
    /// More than `ParameterSet` takes.
    case tooMany

    /// SQLSTATE of the ErrorResponse.
    public var sqlState: String {
        switch self {
        case .unknown: SQLState.undefinedObject
        case .readOnly: SQLState.cannotChangeParameterNow
        case .invalidValue: SQLState.invalidParameterValue
        case .tooMany: SQLState.programLimitExceeded
        }
    }

    /// Text of the ErrorResponse.
    public var message: String {
        switch self {
        case .unknown(let name): "unrecognized configuration parameter \"\(name)\""
        case .readOnly(let name): "parameter \"\(name)\" cannot be changed"
        case .invalidValue(let name, let value): "invalid value for parameter \"\(name)\": \"\(value)\""
        case .tooMany: "too many parameters (at most \(ParameterSet.most) are taken)"
        }
    }
}
