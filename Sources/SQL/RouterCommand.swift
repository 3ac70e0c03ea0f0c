/// What a text says to the router itself: `SET martlet.route = 'primary'`, `SELECT current_setting('martlet.route')`. No
/// server gets to see it.
///
/// An object, because what is known of every statement has room for one word, and hardly any has a command.
public final class RouterCommand: Sendable, Equatable {
    public enum Content: Sendable, Equatable {
        /// Statements for the router, and where others begin behind them; nil when there are none.
        case statements([Statement], rest: Int?)
        /// It speaks of `martlet.` in a way that only a server could carry out, and none can. Why, for people.
        case refused(String)
        /// It would if one of these parameters is the name of such a setting; else it is a statement like others.
        case suspected([Int])
    }

    public enum Statement: Sendable, Equatable {
        /// The name is without "martlet." and in lower case. No value: DEFAULT.
        case set(name: String, value: Argument?, isLocal: Bool)
        case reset(name: String)
        case show(name: String)
        /// SELECT of nothing but calls of set_config() and current_setting().
        case select([Call])
    }

    public enum Argument: Sendable, Equatable {
        case text(String)
        case null
        /// `$1` is 1.
        case parameter(Int)
    }

    public struct Call: Sendable, Equatable {
        public enum Function: Sendable, Equatable {
            case set(value: Argument, isLocal: Argument)
            case current(missingOK: Argument)
        }
        public let function: Function
        /// Without "martlet." and in lower case; a parameter's value has both.
        public let name: Argument
        /// The name of the result's column.
        public let column: String

        public init(_ function: Function, name: Argument, column: String) {
            self.function = function
            self.name = name
            self.column = column
        }
    }

    public let content: Content

    public init(_ content: Content) { self.content = content }

    public static func == (one: RouterCommand, other: RouterCommand) -> Bool { one.content == other.content }

    /// The only statement of a text that has nothing else.
    public var only: Statement? {
        guard case .statements(let statements, rest: nil) = self.content, statements.count == 1 else { return nil }
        return statements.first
    }

    /// It is one statement that shows the position: the column's name. Only a server knows it.
    public var positionColumn: String? {
        switch self.only {
        case .show(name: "lsn"): "martlet.lsn"
        case .select(let calls) where calls.count == 1 && calls[0].name == .text("lsn"):
            if case .current = calls[0].function { calls[0].column } else { nil }
        default: nil
        }
    }

    /// Whether its parameters tell what it is about.
    public var dependsOnParameters: Bool {
        switch self.content {
        case .suspected: true
        case .refused: false
        case .statements(let statements, _):
            statements.contains { statement in
                guard case .select(let calls) = statement else { return false }
                return calls.contains { if case .parameter = $0.name { true } else { false } }
            }
        }
    }

    /// Whether a message may speak of the router at all: where nothing else is looked at, this is cheap.
    public static func isPossible(in message: Span<UInt8>) -> Bool {
        message.mentions("martlet")
    }

    /// What a prepared statement is with its parameters; nil when it turns out to be none of the router's business.
    ///
    /// - Parameter values: those of Bind, as text; `$1` is the first.
    public func bound(to values: [String?]) -> RouterCommand? {
        func value(_ argument: Argument) -> Argument {
            guard case .parameter(let number) = argument else { return argument }
            guard number >= 1, number <= values.count, let text = values[number - 1] else { return .null }
            return .text(text)
        }
        switch self.content {
        case .refused: return self
        case .suspected(let parameters):
            let isOurs = parameters.contains { value(.parameter($0)).settingName != nil }
            return isOurs ? RouterCommand(.refused(Self.expression)) : nil
        case .statements(let statements, let rest):
            guard rest == nil, statements.count == 1, case .select(let calls) = statements[0] else { return self }
            var bound: [Call] = []
            for call in calls {
                var name = call.name
                if case .parameter = name {
                    guard let found = value(name).settingName else { continue }
                    name = .text(found)
                }
                let function: Call.Function =
                    switch call.function {
                    case .set(let text, let isLocal): .set(value: value(text), isLocal: value(isLocal))
                    case .current(let missingOK): .current(missingOK: value(missingOK))
                    }
                bound.append(Call(function, name: name, column: call.column))
            }
            if bound.isEmpty { return nil }
            guard bound.count == calls.count else { return RouterCommand(.refused(Self.mixed)) }
            return RouterCommand(.statements([.select(bound)], rest: nil))
        }
    }

    static let expression =
        "settings of Martlet (martlet.…) are known to no server: SET, RESET, SHOW, and SELECT of nothing but "
        + "set_config() and current_setting() with literals or parameters are understood"
    static let mixed =
        "settings of Martlet (martlet.…) and those of the server cannot be read or set by one SELECT"
    static let behindOthers =
        "what is said to Martlet (martlet.…) in a query of several statements must stand in front of the others"
    static let manyValues = "SET of martlet.… takes only one value"
}

extension RouterCommand {
    /// The types of its parameters, as oids: a name and a value are text, the rest are booleans.
    public var parameterTypes: [UInt32] {
        let (text, bool): (UInt32, UInt32) = (25, 16)
        guard case .select(let calls) = self.only else { return [] }
        var types: [Int: UInt32] = [:]
        func note(_ argument: Argument, _ type: UInt32) {
            if case .parameter(let number) = argument { types[number] = types[number] ?? type }
        }
        for call in calls {
            note(call.name, text)
            switch call.function {
            case .set(let value, let isLocal):
                note(value, text)
                note(isLocal, bool)
            case .current(let missingOK): note(missingOK, bool)
            }
        }
        return (0..<min(types.keys.max() ?? 0, 65_535)).map { types[$0 + 1] ?? text }
    }
}

extension RouterCommand.Argument {
    /// Nil for NULL, and for a parameter that has no value yet.
    public var text: String? {
        guard case .text(let text) = self else { return nil }
        return text
    }

    /// What is behind "martlet." in the full name of a setting, in lower case; nil if it is another one.
    var settingName: String? {
        guard case .text(let text) = self else { return nil }
        return RouterCommand.settingName(text)
    }

    /// As PostgreSQL reads a boolean; a single byte is one in binary format.
    public var isTrue: Bool? {
        guard case .text(let text) = self else { return nil }
        let word = text.lowercased()
        if ["\u{1}", "1", "on"].contains(word) { return true }
        if ["\u{0}", "0", "of", "off"].contains(word) { return false }
        if !word.isEmpty && ("true".hasPrefix(word) || "yes".hasPrefix(word)) { return true }
        return !word.isEmpty && ("false".hasPrefix(word) || "no".hasPrefix(word)) ? false : nil
    }
}

extension RouterCommand {
    static func settingName(_ text: String) -> String? {
        let name = text.lowercased()
        return name.hasPrefix("martlet.") ? String(name.dropFirst("martlet.".count)) : nil
    }
}
