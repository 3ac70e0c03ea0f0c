extension Catalogue {
    /// Where a call of a function may run, and why.
    struct Call {
        let kind: StatementClass.Kind
        var reason: String
        /// Whether what follows in the transaction needs the same server.
        var binds = false
        var takesAdvisoryLock = false

        init(kind: StatementClass.Kind, reason: String = "only reads") {
            self.kind = kind
            self.reason = reason
        }

        init(_ name: String, _ builtin: BuiltinFunctions.Group) {
            self.kind = builtin.kind
            self.reason = "calls \(name), which \(builtin.reason)"
            self.binds = builtin.binds
            self.takesAdvisoryLock = name.hasPrefix("pg_advisory_") || name.hasPrefix("pg_try_advisory_")
        }

        init(_ name: String, _ volatility: Volatility?) {
            switch volatility {
            case .volatile: self.init(kind: .write, reason: "calls \(name), which is VOLATILE")
            case .stable, .immutable: self.init(kind: .read)
            case nil: self.init(kind: .write, reason: "calls \(name), which is not known to be read-only")
            }
        }
    }

    /// A call that the statement names.
    ///
    /// - Parameters:
    ///   - name: as in the catalogue.
    ///   - schema: as the call names it; nil if it leaves that to the search path.
    func call(_ name: String, schema: String?) -> Call {
        if let call = self.callByPattern(name, schema) { return call }
        let builtin = schema == nil || schema == "pg_catalog" ? BuiltinFunctions.find(name) : nil
        let volatility = schema == "pg_catalog" ? nil : self.functions[name]
        // Which of two is called only the server knows: the worse.
        if let builtin, builtin.kind == .write || volatility != .volatile { return Call(name, builtin) }
        return Call(name, volatility)
    }

    /// A call that the statement does not name, of a function that is known for certain.
    func call(_ function: Function) -> Call {
        if let call = self.callByPattern(function.name, function.schema) { return call }
        if function.schema == "pg_catalog", let builtin = BuiltinFunctions.find(function.name) {
            return Call(function.name, builtin)
        }
        return Call(function.name, function.volatility)
    }

    private func callByPattern(_ name: String, _ schema: String?) -> Call? {
        if self.writeFunctions.isEmpty && self.readFunctions.isEmpty { return nil }
        // Which one a call without a schema means only the server knows.
        var schemas = schema.map { [$0] } ?? self.schemas[name] ?? []
        if schema == nil && BuiltinFunctions.find(name) != nil { schemas.append("pg_catalog") }
        if self.writeFunctions.contains(where: { Self.matches($0, name, schemas, any: true) }) {
            return Call(kind: .write, reason: "calls \(name), one of write_functions")
        }
        return self.readFunctions.contains { Self.matches($0, name, schemas, any: false) } ? Call(kind: .read) : nil
    }

    /// A pattern without a schema matches in any.
    ///
    /// - Parameters:
    ///   - schemas: those that the function may be in; empty if nobody knows.
    ///   - any: whether one of them is enough, or all must match.
    private static func matches(_ pattern: String, _ name: String, _ schemas: [String], any: Bool) -> Bool {
        if Self.matches(pattern.utf8[...], name.utf8[...]) { return true }
        guard let dot = pattern.utf8.lastIndex(of: UInt8(ascii: ".")) else { return false }
        if schemas.isEmpty { return any && Self.matches(pattern.utf8[dot...].dropFirst(), name.utf8[...]) }
        let isMatch = { (schema: String) in Self.matches(pattern.utf8[...], "\(schema).\(name)".utf8[...]) }
        return any ? schemas.contains(where: isMatch) : schemas.allSatisfy(isMatch)
    }

    /// `*` stands for any characters. Linear but for the pattern's length: the last star alone is tried again.
    private static func matches(_ pattern: Substring.UTF8View, _ name: Substring.UTF8View) -> Bool {
        var pattern = pattern
        var name = name
        var retry: (pattern: Substring.UTF8View, name: Substring.UTF8View)?
        while !name.isEmpty {
            if pattern.first == UInt8(ascii: "*") {
                pattern = pattern.dropFirst()
                retry = (pattern, name)
            } else if pattern.first == name.first {
                pattern = pattern.dropFirst()
                name = name.dropFirst()
            } else if let last = retry {
                pattern = last.pattern
                name = last.name.dropFirst()
                retry = (pattern, name)
            } else {
                return false
            }
        }
        return pattern.allSatisfy { $0 == UInt8(ascii: "*") }
    }
}
