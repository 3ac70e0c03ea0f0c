import Wire

/// A setting of a session.
public struct Parameter: Sendable, Equatable {
    /// The name as the server writes it ("DateStyle"), or as the client did when no server reports it.
    public let name: String
    /// The name in lower case: names are compared without regard to case.
    public let key: String
    /// The value in the client's encoding.
    public let value: [UInt8]
    /// Whether the server reports it by ParameterStatus. Others were set in a startup packet.
    public let isReported: Bool
    /// Whether nobody can set it (`ParameterNames.readOnly`).
    let isReadOnly: Bool

    init(name: String, value: [UInt8], isReported: Bool) {
        self.name = name
        self.key = name.lowercased()
        self.value = value
        self.isReported = isReported
        self.isReadOnly = ParameterNames.readOnly.contains(self.key)
    }

    /// The value for people; what is not valid UTF-8 is replaced by U+FFFD.
    public var text: String { String(decoding: self.value, as: UTF8.self) }
}

/// The settings of a client's session or of a server connection; it never changes.
///
/// `ParameterTable` makes it, the same object for the same settings, so that most comparisons are one of pointers. Sets
/// of different tables may be compared too: it only takes longer.
public final class ParameterSet: Sendable {
    /// Ordered by key.
    public let parameters: [Parameter]

    /// The most settings that a startup packet may have, and the most that a server may report: each costs time whenever a
    /// connection changes hands. PostgreSQL reports some fifteen.
    public static let most = 256
    /// The most bytes of names and values that a server may report.
    static let mostBytes = 256 << 10

    /// The set without settings.
    public static let empty = ParameterSet([])

    /// ParameterStatus of all that the server reports: how a client with these settings is greeted.
    public let statusMessages: [UInt8]
    /// Those settings among them that say what a text means.
    public let parsing: ParsingSettings
    /// Whether a backslash in a plain string literal stands for itself.
    public let hasStandardStrings: Bool
    /// The characters of what the client sends.
    public let encoding: ClientEncoding
    /// Whether transactions are READ ONLY unless they say otherwise.
    public let isReadOnlyByDefault: Bool

    /// The isolation level of transactions that do not name one, as far as the client has said it at startup; nil if it has
    /// not.
    public let defaultIsolation: DefaultIsolation?

    /// What `default_transaction_isolation` means.
    public enum DefaultIsolation: Sendable {
        /// READ UNCOMMITTED, too.
        case readCommitted
        case repeatableRead, serializable

        init(_ value: [UInt8]) {
            switch String(decoding: value, as: UTF8.self).lowercased() {
            case "read committed", "read uncommitted": self = .readCommitted
            case "serializable": self = .serializable
            default: self = .repeatableRead
            }
        }
    }
    /// Whether a server that reports this takes no writes for now.
    public let takesNoWrites: Bool

    /// - Parameter parameters: ordered by key, no key twice.
    init(_ parameters: [Parameter]) {
        self.parameters = parameters
        self.parsing = ParsingSettings(parameters)
        self.statusMessages = MessageWriter.bytes { writer in
            for parameter in parameters where parameter.isReported {
                writer.parameterStatus(name: parameter.name, value: parameter.value)
            }
        }
        let off = Array("off".utf8)
        let on = Array("on".utf8)
        let encoding = parameters.first { $0.key == "client_encoding" }
        self.encoding = encoding.map { ClientEncoding(String(decoding: $0.value, as: UTF8.self)) } ?? .utf8
        self.hasStandardStrings = !parameters.contains { $0.key == "standard_conforming_strings" && $0.value == off }
        let isolation = parameters.first { $0.key == "default_transaction_isolation" }
        self.defaultIsolation = isolation.map { DefaultIsolation($0.value) }
        self.isReadOnlyByDefault = parameters.contains { $0.key == "default_transaction_read_only" && $0.value == on }
        self.takesNoWrites =
            self.isReadOnlyByDefault || parameters.contains { $0.key == "in_hot_standby" && $0.value == on }
    }

    /// The setting of a name, in whatever case.
    public subscript(name: String) -> Parameter? {
        self.position(name.lowercased()).found.map { self.parameters[$0] }
    }

    /// Whether a server with the other settings will take these without doubt: what differs has a value of a kind that
    /// every server knows.
    public func isSureToBeTaken(by server: ParameterSet) -> Bool {
        self.parameters.allSatisfy { parameter in
            server[parameter.key]?.value == parameter.value || ParameterValues.isSure(parameter)
        }
    }

    /// Position of a key, or where it would have to be inserted.
    func position(_ key: String) -> (found: Int?, insertion: Int) {
        var range = 0..<self.parameters.count
        while !range.isEmpty {
            let middle = range.lowerBound + range.count / 2
            let other = self.parameters[middle].key
            if other == key { return (middle, middle) }
            range = other < key ? (middle + 1)..<range.upperBound : range.lowerBound..<middle
        }
        return (nil, range.lowerBound)
    }

    /// What has to be changed on a server connection with the settings of `server` so that this client can use it.
    ///
    /// What the server tells but nobody can set (`ParameterNames.readOnly`) makes no difference. A setting that is not
    /// reported and that the client has not is taken back: another client had set it.
    public func changes(from server: ParameterSet) -> [ParameterChange] {
        if self === server { return [] }
        var changes: [ParameterChange] = []
        let (mine, theirs) = (self.parameters, server.parameters)
        var (left, right) = (0, 0)
        while left < mine.count || right < theirs.count {
            if left < mine.count, right < theirs.count, mine[left].key == theirs[right].key {
                if !mine[left].isReadOnly && mine[left].value != theirs[right].value {
                    changes.append(.set(mine[left]))
                }
                left += 1
                right += 1
            } else if right == theirs.count || (left < mine.count && mine[left].key < theirs[right].key) {
                // A server that does not report scram_iterations is too old to know it.
                if !mine[left].isReadOnly && mine[left].key != "scram_iterations" { changes.append(.set(mine[left])) }
                left += 1
            } else {
                if !theirs[right].isReported { changes.append(.reset(theirs[right].name)) }
                right += 1
            }
        }
        return changes
    }
}
