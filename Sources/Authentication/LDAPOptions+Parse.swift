extension LDAPOptions {
    /// Reads the setting `auth_ldap_options`, which has the form of an HBA rule's options.
    ///
    /// - Returns: the options, or what is wrong with them.
    public static func parse(_ text: String) -> (options: LDAPOptions?, problem: String?) {
        do throws(RuleError) {
            let words = try RuleFile.fields(Array(text.utf8), hasRemarks: false)
            return (try LDAPOptions(words.joined()), nil)
        } catch {
            return (nil, error.text)
        }
    }

    /// Reads a rule's options. What PostgreSQL finds out at a login only is refused here, and so is what would let in
    /// whoever comes.
    init(_ words: some Sequence<RuleToken>) throws(RuleError) {
        let (values, scope) = try Self.values(words)
        let scheme = try Self.scheme(values["ldapscheme"])
        let port = try Self.port(values["ldapport"])
        guard let hosts = values["ldapserver"] else {
            throw RuleError("ldapserver is missing; servers are not looked up in DNS")
        }
        let names = hosts.split { $0 == " " || $0 == "\t" }
        guard !names.isEmpty else { throw RuleError("ldapserver is empty") }
        var servers: [String] = []
        for name in names {
            servers.append("\(scheme)://\(try Self.host(name)):\(port ?? (scheme == "ldaps" ? 636 : 389))")
        }
        self.servers = servers
        self.startsTLS = try Self.startsTLS(values["ldaptls"], scheme)
        self.mode = try Self.mode(values, scope)
    }

    private static let names: Set<String> = [
        "ldapserver", "ldapport", "ldapscheme", "ldaptls", "ldapprefix", "ldapsuffix", "ldapbasedn", "ldapbinddn",
        "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl",
    ]

    /// The options by name, those that a URL stands for among them, and how deep a search goes.
    private static func values(
        _ words: some Sequence<RuleToken>
    ) throws(RuleError) -> (values: [String: String], scope: Scope) {
        var values: [String: String] = [:]
        for word in words {
            let bytes = word.text.utf8
            let equals = bytes.firstIndex(of: UInt8(ascii: "="))
            let name = String(word.text[..<(equals ?? word.text.endIndex)])
            guard let equals, Self.names.contains(name) else {
                // What has no name may be the end of a password.
                let what =
                    name.hasPrefix("ldap") ? "option \(name) is not supported" : "options of method ldap are name=value"
                throw RuleError("\(what); a value with blanks or commas needs double quotes")
            }
            try Self.add(name, String(word.text[bytes.index(after: equals)...]), to: &values)
        }
        guard let text = values["ldapurl"] else { return (values, .subtree) }
        let url = try LDAPURL(text)
        try Self.add("ldapscheme", url.scheme, to: &values)
        try Self.add("ldapserver", url.host, to: &values)
        try Self.add("ldapport", url.port, to: &values)
        try Self.add("ldapbasedn", url.base, to: &values)
        try Self.add("ldapsearchattribute", url.attribute, to: &values)
        try Self.add("ldapsearchfilter", url.filter, to: &values)
        return (values, url.scope)
    }

    private static func add(
        _ name: String, _ value: String?, to values: inout [String: String]
    ) throws(RuleError) {
        guard let value else { return }
        guard values.updateValue(value, forKey: name) == nil else {
            throw RuleError("\(name) is given twice" + (values["ldapurl"] == nil ? "" : ", perhaps by ldapurl"))
        }
    }

    // MARK: Servers

    private static func scheme(_ text: String?) throws(RuleError) -> String {
        guard let text else { return "ldap" }
        guard ["ldap", "ldaps"].contains(text) else { throw RuleError("ldapscheme must be ldap or ldaps") }
        return text
    }

    private static func port(_ text: String?) throws(RuleError) -> UInt16? {
        guard let text else { return nil }
        guard text.utf8.allSatisfy({ 0x30...0x39 ~= $0 }), let port = UInt16(text), port > 0 else {
            throw RuleError("ldapport must be a number from 1 to 65535")
        }
        return port
    }

    /// Fit for a URI.
    private static func host(_ text: Substring) throws(RuleError) -> String {
        let isBracketed = text.hasPrefix("[") && text.hasSuffix("]")
        let bare = String(isBracketed ? text.dropFirst().dropLast() : text)
        if bare.utf8.contains(UInt8(ascii: ":")) {
            guard NetworkAddress(bare) != nil else {
                throw RuleError("is not the name of a server: \(text); a port goes into ldapport")
            }
            return "[\(bare)]"
        }
        let isName = bare.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard isName, !isBracketed, !bare.isEmpty else { throw RuleError("is not the name of a server: \(text)") }
        return bare
    }

    private static func startsTLS(_ text: String?, _ scheme: String) throws(RuleError) -> Bool {
        switch text {
        case nil, "0": return false
        // Anything else is no to PostgreSQL: passwords in clear text for who writes "yes".
        case "1" where scheme == "ldap": return true
        case "1": throw RuleError("ldaptls=1 begins TLS inside TLS with ldaps; leave one of the two out")
        default: throw RuleError("ldaptls must be 0 or 1")
        }
    }

    // MARK: Names

    private static func mode(_ values: [String: String], _ scope: Scope) throws(RuleError) -> Mode {
        let prefix = values["ldapprefix"]
        let suffix = values["ldapsuffix"]
        if prefix != nil || suffix != nil {
            for name in ["ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter"]
            where values[name] != nil {
                throw RuleError(
                    "\(name) is for search, \(prefix != nil ? "ldapprefix" : "ldapsuffix") for a simple bind; "
                        + "leave one of the two out")
            }
            return .simple(prefix: prefix ?? "", suffix: suffix ?? "")
        }
        guard let base = values["ldapbasedn"] else {
            throw RuleError("one of ldapbasedn, ldapprefix and ldapsuffix is needed")
        }
        return .search(
            Search(base: base, scope: scope, searcher: try Self.searcher(values), filter: try Self.filter(values)))
    }

    private static func searcher(_ values: [String: String]) throws(RuleError) -> Searcher? {
        let name = values["ldapbinddn"] ?? ""
        let password = values["ldapbindpasswd"] ?? ""
        guard name.isEmpty == password.isEmpty else {
            throw RuleError(
                name.isEmpty
                    ? "ldapbindpasswd needs ldapbinddn, whose password it is"
                    : "ldapbinddn needs ldapbindpasswd; leave both out to search as nobody")
        }
        return name.isEmpty ? nil : Searcher(name: name, password: SecretBytes(Array(password.utf8)))
    }

    private static func filter(_ values: [String: String]) throws(RuleError) -> [String] {
        let attribute = values["ldapsearchattribute"]
        guard let filter = values["ldapsearchfilter"] else {
            let attribute = attribute ?? "uid"
            let isName = attribute.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: ";"):
                    true
                default: false
                }
            }
            guard isName, !attribute.isEmpty else {
                throw RuleError("ldapsearchattribute must be the name of one attribute")
            }
            return ["(\(attribute)=", ")"]
        }
        guard attribute == nil else {
            throw RuleError("ldapsearchattribute and ldapsearchfilter exclude each other; leave one of the two out")
        }
        let parts = Self.parts(filter)
        guard parts.count > 1 else {
            throw RuleError("ldapsearchfilter must contain $username, or one password lets in under any name")
        }
        return parts
    }

    /// The texts between the places of the name.
    private static func parts(_ filter: String) -> [String] {
        let place = Array("$username".utf8)
        var parts: [[UInt8]] = [[]]
        var rest = Array(filter.utf8)[...]
        while let byte = rest.first {
            if rest.starts(with: place) {
                parts.append([])
                rest = rest.dropFirst(place.count)
            } else {
                parts[parts.count - 1].append(byte)
                rest = rest.dropFirst()
            }
        }
        return parts.map { String(decoding: $0, as: UTF8.self) }
    }
}
