extension RouterCommand {
    /// What a text says to the router; nil for everything else. Two passes at the most, so it is asked only of texts whose
    /// class says that they are about settings (`StatementClass.namesSettings`).
    ///
    /// - Parameters:
    ///   - text: SQL without its NUL.
    ///   - standardConformingStrings: whether a backslash in a plain string literal stands for itself.
    public convenience init?(_ text: Span<UInt8>, standardConformingStrings: Bool = true) {
        var words = Words(text, standardConformingStrings)
        var statements: [Statement] = []
        var rest: Int?
        var suspects: [Int] = []
        var refusal: String?
        while words.skipSemicolons() {
            let start = words.start
            switch words.statement() {
            case .command(let statement):
                if rest != nil || !suspects.isEmpty { refusal = refusal ?? Self.behindOthers }
                statements.append(statement)
            case .refused(let reason):
                refusal = refusal ?? reason
                words.back(to: start)
                words.passStatement(&suspects, &refusal)
            case .other:
                words.back(to: start)
                words.passStatement(&suspects, &refusal)
                if rest == nil { rest = start }
            }
        }
        if let refusal {
            self.init(.refused(refusal))
        } else if statements.isEmpty {
            guard !suspects.isEmpty else { return nil }
            self.init(.suspected(suspects))
        } else {
            self.init(.statements(statements, rest: rest))
        }
    }

    fileprivate enum Found {
        case command(Statement)
        case refused(String)
        case other
    }

    /// Reads a text token by token.
    fileprivate struct Words: ~Escapable {
        private let text: Span<UInt8>
        private let standardConformingStrings: Bool
        private var lexer: Lexer
        private var token: Lexer.Token

        @_lifetime(copy text)
        init(_ text: Span<UInt8>, _ standardConformingStrings: Bool) {
            self.text = text
            self.standardConformingStrings = standardConformingStrings
            self.lexer = Lexer(standardConformingStrings: standardConformingStrings)
            self.token = self.lexer.next(text)
        }

        /// Where the next token begins.
        var start: Int { self.token.start }

        private mutating func advance() { self.token = self.lexer.next(self.text) }

        mutating func back(to start: Int) {
            self.lexer = Lexer(standardConformingStrings: self.standardConformingStrings, from: start)
            self.advance()
        }

        /// False at the end of the text.
        mutating func skipSemicolons() -> Bool {
            while self.take(byte: ";") {}
            return self.token.kind != .end
        }

        private var isAtEnd: Bool {
            self.token.kind == .end
                || self.token.kind == .byte && self.text[self.token.start] == UInt8(ascii: ";")
        }

        // MARK: Tokens

        private func isWord(_ word: String) -> Bool {
            (self.token.kind == .word || self.token.kind == .operator)
                && self.token.end - self.token.start == word.utf8.count
                && self.text.hasWord(word, at: self.token.start, before: self.token.end)
        }

        /// Passes a word or an operator, given in lower case, if it is the next one.
        private mutating func take(_ word: String) -> Bool {
            guard self.isWord(word) else { return false }
            self.advance()
            return true
        }

        private mutating func take(byte: Unicode.Scalar) -> Bool {
            guard self.token.kind == .byte, self.text[self.token.start] == UInt8(ascii: byte) else { return false }
            self.advance()
            return true
        }

        private mutating func takeDot() -> Bool {
            guard self.token.kind == .dot, self.token.end - self.token.start == 1 else { return false }
            self.advance()
            return true
        }

        /// A name, as PostgreSQL reads it: without quotes in lower case.
        private var name: String? {
            switch self.token.kind {
            case .word: self.text.literalText(self.token.start..<self.token.end).lowercased()
            case .quotedIdentifier: self.text.identifier(self.token)
            default: nil
            }
        }

        private mutating func takeName() -> String? {
            guard let name = self.name else { return nil }
            self.advance()
            return name
        }

        /// The string literal that is next.
        private var literal: String? {
            guard self.token.kind == .string else { return nil }
            return self.text.literal(self.token, standardConformingStrings: self.standardConformingStrings)
        }

        private mutating func takeParameter() -> Int? {
            guard self.token.kind == .parameter else { return nil }
            let number = Int(self.text.literalText((self.token.start + 1)..<self.token.end))
            if number != nil { self.advance() }
            return number
        }

        // MARK: Statements

        mutating func statement() -> Found {
            let found = self.anyStatement()
            guard case .command = found else { return found }
            return self.isAtEnd ? found : .other
        }

        private mutating func anyStatement() -> Found {
            if self.take("set") {
                let isLocal = self.take("local")
                if !isLocal { _ = self.take("session") }
                guard let name = self.setting() else { return .other }
                guard self.take("=") || self.take("to") else { return .refused(RouterCommand.expression) }
                if self.take("default") { return .command(.set(name: name, value: nil, isLocal: isLocal)) }
                guard let value = self.value() else { return .refused(RouterCommand.expression) }
                if self.take(byte: ",") { return .refused(RouterCommand.manyValues) }
                return .command(.set(name: name, value: .text(value), isLocal: isLocal))
            }
            if self.take("reset") { return self.setting().map { .command(.reset(name: $0)) } ?? .other }
            if self.take("show") { return self.setting().map { .command(.show(name: $0)) } ?? .other }
            return self.take("select") ? self.calls() : .other
        }

        /// What stands behind "martlet.", in lower case: `martlet.route`, or both in quotes together.
        private mutating func setting() -> String? {
            guard var name = self.takeName() else { return nil }
            while self.takeDot() {
                guard let part = self.takeName() else { return nil }
                name += "." + part
            }
            return RouterCommand.settingName(name)
        }

        /// The value of SET: a word, a number with or without its sign, or a literal.
        private mutating func value() -> String? {
            var sign = ""
            if self.take("-") { sign = "-" } else { _ = self.take("+") }
            let text: String?
            switch self.token.kind {
            case .number: text = sign + self.text.literalText(self.token.start..<self.token.end)
            case .word, .quotedIdentifier: text = self.name
            case .string: text = self.literal
            default: text = nil
            }
            guard sign.isEmpty || self.token.kind == .number, text != nil else { return nil }
            self.advance()
            return text
        }

        // MARK: Functions

        /// `SELECT` of nothing but set_config() and current_setting().
        private mutating func calls() -> Found {
            var calls: [Call] = []
            var hasOthers = false
            repeat {
                guard let call = self.call() else { return .other }
                switch call.name {
                case .text(let text):
                    guard let name = RouterCommand.settingName(text) else {
                        hasOthers = true
                        continue
                    }
                    calls.append(Call(call.function, name: .text(name), column: call.column))
                case .null: hasOthers = true
                case .parameter: calls.append(call)
                }
            } while self.take(byte: ",")
            if calls.isEmpty { return .other }
            guard hasOthers else { return .command(.select(calls)) }
            let isOurs = calls.contains { if case .text = $0.name { true } else { false } }
            return isOurs ? .refused(RouterCommand.mixed) : .other
        }

        private mutating func call() -> Call? {
            guard var function = self.takeName() else { return nil }
            if function == "pg_catalog" && self.takeDot() {
                guard let name = self.takeName() else { return nil }
                function = name
            }
            guard RouterCommand.functions.contains(function), self.take(byte: "(") else { return nil }
            var arguments: [Argument] = []
            repeat {
                guard let argument = self.argument() else { return nil }
                arguments.append(argument)
            } while self.take(byte: ",")
            guard self.take(byte: ")") else { return nil }
            var column = function
            let hasAs = self.take("as")
            if hasAs || !self.isAtEnd, let alias = self.name {
                self.advance()
                column = alias
            }
            switch (function, arguments.count) {
            case ("set_config", 3):
                return Call(.set(value: arguments[1], isLocal: arguments[2]), name: arguments[0], column: column)
            case ("current_setting", 1):
                return Call(.current(missingOK: .text("false")), name: arguments[0], column: column)
            case ("current_setting", 2):
                return Call(.current(missingOK: arguments[1]), name: arguments[0], column: column)
            default: return nil
            }
        }

        /// A literal, NULL, a boolean or a parameter, with or without a cast.
        private mutating func argument() -> Argument? {
            let argument: Argument
            if self.take("null") {
                argument = .null
            } else if self.isWord("true") || self.isWord("false") {
                argument = .text(self.name ?? "")
                self.advance()
            } else if let number = self.takeParameter() {
                argument = .parameter(number)
            } else if let text = self.literal {
                argument = .text(text)
                self.advance()
            } else {
                return nil
            }
            if self.take("::") {
                guard let type = self.takeName(), ["text", "varchar", "bool", "boolean"].contains(type) else {
                    return nil
                }
            }
            return argument
        }

        // MARK: Other statements

        /// Passes a statement that is none of the router's, and notes whether it speaks of its settings nevertheless.
        mutating func passStatement(_ suspects: inout [Int], _ refusal: inout String?) {
            var depth = 0
            while self.token.kind != .end {
                if depth == 0 && self.isAtEnd { return }
                if self.token.kind == .byte {
                    let byte = self.text[self.token.start]
                    if byte == UInt8(ascii: "(") { depth += 1 }
                    if byte == UInt8(ascii: ")") { depth = max(0, depth - 1) }
                }
                if let name = self.name, RouterCommand.functions.contains(name) {
                    self.advance()
                    guard self.take(byte: "(") else { continue }
                    depth += 1
                    if let number = self.takeParameter() { suspects.append(number) }
                    if let text = self.literal, RouterCommand.settingName(text) != nil {
                        refusal = refusal ?? RouterCommand.expression
                    }
                } else if self.take("set") || self.take("reset") || self.take("show") {
                    if !self.take("local") { _ = self.take("session") }
                    if self.setting() != nil { refusal = refusal ?? RouterCommand.expression }
                } else {
                    self.advance()
                }
            }
        }
    }

    fileprivate static let functions = ["set_config", "current_setting"]
}
