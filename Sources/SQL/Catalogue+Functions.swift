extension Catalogue {
    /// Where a call of a function may run, and why.
    struct Call {
        let kind: StatementClass.Kind
        var reason = "only reads"
        /// Whether what follows in the transaction needs the same server.
        var binds = false
    }

    /// - Parameters:
    ///   - name: as in the catalogue.
    ///   - schema: as the call names it; nil if it leaves that to the search path.
    func call(_ name: String, schema: String?) -> Call {
        if Self.matches(self.writeFunctions, name, schema) {
            return Call(kind: .write, reason: "calls \(name), one of write_functions")
        }
        if Self.matches(self.readFunctions, name, schema) { return Call(kind: .read) }
        let builtin = schema == nil || schema == "pg_catalog" ? BuiltinFunctions.find(name) : nil
        let volatility = schema == "pg_catalog" ? nil : self.functions[name]
        // Which of two is called only the server knows: the worse.
        if let builtin, builtin.kind == .write || volatility != .volatile {
            return Call(kind: builtin.kind, reason: "calls \(name), which \(builtin.reason)", binds: builtin.binds)
        }
        switch volatility {
        case .volatile: return Call(kind: .write, reason: "calls \(name), which is VOLATILE")
        case .stable, .immutable: return Call(kind: .read)
        case nil: return Call(kind: .write, reason: "calls \(name), which is not known to be read-only")
        }
    }

    /// A pattern without a schema matches in any; one with a schema only a call that names it.
    private static func matches(_ patterns: [String], _ name: String, _ schema: String?) -> Bool {
        patterns.contains { pattern in
            if Self.matches(pattern.utf8[...], name.utf8[...]) { return true }
            guard let schema, pattern.contains(".") else { return false }
            return Self.matches(pattern.utf8[...], "\(schema).\(name)".utf8[...])
        }
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
