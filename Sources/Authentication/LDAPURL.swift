/// A URL of a directory (RFC 4516), as far as PostgreSQL understands it:
/// `ldap[s]://host[:port]/base[?[attribute][?[scope][?[filter]]]]`. Nil is what it does not say.
struct LDAPURL: Equatable {
    var scheme: String
    /// Names of hosts, with blanks between them.
    var host: String?
    var port: String?
    var base: String?
    var attribute: String?
    /// Without a word the base only.
    var scope: LDAPOptions.Scope
    var filter: String?

    init(_ text: String) throws(RuleError) {
        let lowercased = text.lowercased()
        guard let scheme = ["ldap", "ldaps"].first(where: { lowercased.hasPrefix("\($0)://") }) else {
            throw RuleError("ldapurl must begin with ldap:// or ldaps://")
        }
        self.scheme = scheme
        let rest = text.dropFirst(scheme.count + 3)
        let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/"))
        (self.host, self.port) = try Self.address(rest[..<(slash ?? rest.endIndex)])
        let parts = (slash.map { rest[$0...].dropFirst() } ?? "")
            .split(separator: "?", maxSplits: 4, omittingEmptySubsequences: false)
        guard parts.count < 5 else { throw RuleError("extensions in ldapurl are not supported") }
        func part(_ index: Int) throws(RuleError) -> String? {
            guard index < parts.count, !parts[index].isEmpty else { return nil }
            return try Self.decoded(parts[index])
        }
        self.base = slash == nil ? nil : try part(0) ?? ""
        self.attribute = try part(1)
        self.filter = try part(3)
        switch try part(2)?.lowercased() {
        case nil, "base": self.scope = .base
        case "one", "onelevel": self.scope = .oneLevel
        case "sub", "subtree": self.scope = .subtree
        default: throw RuleError("the scope in ldapurl must be base, one or sub")
        }
    }

    private static func address(_ text: Substring) throws(RuleError) -> (host: String?, port: String?) {
        // The colons of an IPv6 address stand in brackets.
        let bracket = text.utf8.lastIndex(of: UInt8(ascii: "]"))
        let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")).flatMap { colon in
            bracket.map { $0 < colon } ?? true ? colon : nil
        }
        let host = try Self.decoded(text[..<(colon ?? text.endIndex)])
        return (host.isEmpty ? nil : host, colon.map { String(text[$0...].dropFirst()) })
    }

    /// Puts bytes in the place of `%` and two digits.
    private static func decoded(_ text: Substring) throws(RuleError) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(Self.digit), let low = rest.popFirst().flatMap(Self.digit),
                high | low != 0
            else { throw RuleError("in ldapurl % must be followed by two hexadecimal digits, not 00") }
            bytes.append(high << 4 | low)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else {
            throw RuleError("ldapurl is not valid UTF-8")
        }
        return decoded
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
