extension HBARule {
    /// Reads one rule: type, databases, users, address (not for `local`), method, options.
    init(_ line: RuleLine, file: String) throws(RuleError) {
        var fields = line.fields[...]
        let type = try Self.word(&fields, "type of connection")
        guard let connection = Connection(rawValue: type) else {
            throw RuleError("unknown type of connection: \(type)")
        }
        self.connection = connection
        self.databases = try Self.databases(try Self.field(&fields, "database"))
        self.users = try Self.users(try Self.field(&fields, "user"))
        self.address = connection == .local ? nil : try Self.address(&fields)
        self.method = try Self.method(try Self.word(&fields, "method"), connection)
        self.ldap = self.method == .ldap ? try LDAPOptions(fields.joined()) : nil
        self.map = self.method == .ldap ? nil : try Self.map(fields, self.method)
        self.place = "\(file):\(line.number)"
    }

    private static func field(_ fields: inout ArraySlice<[RuleToken]>, _ what: String) throws(RuleError) -> [RuleToken]
    {
        guard let field = fields.popFirst() else { throw RuleError("the \(what) is missing") }
        return field
    }

    private static func word(_ fields: inout ArraySlice<[RuleToken]>, _ what: String) throws(RuleError) -> String {
        let field = try Self.field(&fields, what)
        guard field.count == 1 else { throw RuleError("the \(what) must be one word, not a list") }
        return field[0].text
    }

    // MARK: Names

    private static func databases(_ tokens: [RuleToken]) throws(RuleError) -> [Name] {
        var names: [Name] = []
        for token in tokens {
            if token.isKeyword("all") {
                names.append(.all)
            } else if token.isKeyword("sameuser") {
                names.append(.sameUser)
            } else if token.isKeyword("replication") {
                names.append(.replication)
            } else if token.isKeyword("samerole") || token.isKeyword("samegroup") {
                throw RuleError("\(token.text): membership in a role is not known here, name the databases or users")
            } else {
                names.append(try Self.name(token))
            }
        }
        return names
    }

    private static func users(_ tokens: [RuleToken]) throws(RuleError) -> [Name] {
        var names: [Name] = []
        for token in tokens {
            if token.isKeyword("all") {
                names.append(.all)
            } else if token.text.hasPrefix("+") && !token.isQuoted {
                throw RuleError("\(token.text): membership in a role is not known here, name the users or an @file")
            } else {
                names.append(try Self.name(token))
            }
        }
        return names
    }

    private static func name(_ token: RuleToken) throws(RuleError) -> Name {
        // As in PostgreSQL 16, also in quotes, which an expression with a comma needs.
        guard token.text.hasPrefix("/") else { return .name(token.text) }
        return .pattern(try NamePattern(String(token.text.dropFirst())))
    }

    // MARK: Address

    private static func address(_ fields: inout ArraySlice<[RuleToken]>) throws(RuleError) -> Address {
        let field = try Self.field(&fields, "address")
        guard let token = field.first, field.count == 1 else { throw RuleError("there can be only one address") }
        if token.isKeyword("all") { return .all }
        if token.isKeyword("samehost") { return .sameHost }
        if token.isKeyword("samenet") { return .sameNet }
        let parts = token.text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = NetworkAddress(String(parts[0])) else {
            return .name(try Self.hostName(token.text))
        }
        if parts.count == 2 {
            let bits = parts[1]
            guard 1...3 ~= bits.utf8.count, bits.allSatisfy({ "0"..."9" ~= $0 }), let prefix = Int(bits),
                let network = Network(address, prefix: prefix)
            else { throw RuleError("bad number of bits: \(token.text)") }
            return .network(network)
        }
        // The mask stands in a column of its own.
        guard let mask = fields.first?.first, let bits = NetworkAddress(mask.text) else {
            throw RuleError("\(token.text) needs the number of its bits (\(token.text)/32), or a mask")
        }
        fields.removeFirst()
        guard let network = Network(address, mask: bits) else {
            throw RuleError("address \(token.text) and mask \(mask.text) are of different families")
        }
        return .network(network)
    }

    private static func hostName(_ text: String) throws(RuleError) -> String {
        let isName = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"), 0x80...:
                true
            default: false
            }
        }
        // What looks like an address and is none is no name either: a rule that never fits is no rule.
        let isNumeric = text.utf8.allSatisfy { $0 == UInt8(ascii: ".") || 0x30...0x39 ~= $0 }
        guard isName, !isNumeric, !text.isEmpty, text.utf8.count <= 255 else {
            throw RuleError("is neither an address nor a host name: \(text)")
        }
        return text
    }

    // MARK: Method

    private static func method(_ word: String, _ connection: Connection) throws(RuleError) -> Method {
        let method: Method
        switch word {
        case "plain": method = .password
        // On Unix sockets PostgreSQL takes the one for the other.
        case "ident" where connection == .local: method = .peer
        case "pam", "gss", "sspi", "ident", "radius", "bsd", "oauth":
            throw RuleError("method \(word) is not supported")
        default:
            guard let known = Method(rawValue: word) else { throw RuleError("unknown method: \(word)") }
            method = known
        }
        if method == .peer && connection != .local {
            throw RuleError("method peer is for Unix sockets (local) only")
        }
        if method == .cert && connection != .hostssl {
            throw RuleError("method cert is for connections with TLS (hostssl) only")
        }
        return method
    }

    private static func map(_ fields: ArraySlice<[RuleToken]>, _ method: Method) throws(RuleError) -> String? {
        var map: String?
        for token in fields.joined() {
            let parts = token.text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else { throw RuleError("an option must be name=value: \(token.text)") }
            // Others may be conditions: to ignore one is to let in whom it keeps out.
            guard parts[0] == "map" else { throw RuleError("option \(parts[0]) is not supported") }
            guard method == .peer || method == .cert else {
                throw RuleError("option map is for the methods peer and cert only")
            }
            guard !parts[1].isEmpty else { throw RuleError("map= needs the name of a map") }
            map = String(parts[1])
        }
        return map
    }
}
