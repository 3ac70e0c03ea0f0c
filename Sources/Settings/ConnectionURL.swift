/// Connection strings in URL notation: `postgresql://user:password@host1:5432,host2/database?key=value`.
///
/// The notation is libpq's (PostgreSQL's manual, chapter "libpq", "Connection URIs").
enum ConnectionURL {
    private static let schemes = ["postgresql://", "postgres://"]

    /// True when the text begins as such a URL does.
    static func matches(_ text: String) -> Bool {
        self.schemes.contains { text.hasPrefix($0) }
    }

    /// Takes a URL apart into the assignments of a connection string. An error never quotes the URL.
    static func parse(_ text: String) throws(InvalidValue) -> [Assignment] {
        guard let scheme = self.schemes.first(where: { text.hasPrefix($0) }) else {
            throw InvalidValue("must begin with postgresql://")
        }
        guard !text.contains(where: { ValueText.isBlank($0) }) else {
            throw InvalidValue("has a blank in its URL; write it as %20")
        }
        let rest = text.dropFirst(scheme.count)
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let query = rest.drop { $0 != "?" }.dropFirst()
        let path = rest.dropFirst(authority.count).prefix { $0 != "?" }.dropFirst()

        var assignments = try self.parseUser(authority)
        assignments += try self.parseHosts(authority)
        if !path.isEmpty {
            assignments.append(Assignment(key: "dbname", value: try self.decode(path)))
        }
        for parameter in query.split(separator: "&") {
            let parts = parameter.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw InvalidValue("has a parameter without \"=\" in its URL")
            }
            assignments.append(Assignment(key: try self.decode(parts[0]), value: try self.decode(parts[1])))
        }
        return assignments
    }

    private static func parseUser(_ authority: Substring) throws(InvalidValue) -> [Assignment] {
        guard let at = authority.lastIndex(of: "@") else { return [] }
        let parts = authority[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var assignments: [Assignment] = []
        for (key, part) in zip(["user", "password"], parts) where !part.isEmpty {
            assignments.append(Assignment(key: key, value: try self.decode(part)))
        }
        return assignments
    }

    private static func parseHosts(_ authority: Substring) throws(InvalidValue) -> [Assignment] {
        let list = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority
        guard !list.isEmpty else { return [] }
        var hosts: [String] = []
        var ports: [Substring] = []
        for item in list.split(separator: ",", omittingEmptySubsequences: false) {
            var host = item.prefix { $0 != ":" }
            var port = item.dropFirst(host.count)
            if item.first == "[" {
                guard let bracket = item.firstIndex(of: "]") else {
                    throw InvalidValue("lacks the \"]\" of an IPv6 address in its URL")
                }
                host = item[item.index(after: item.startIndex)..<bracket]
                port = item[item.index(after: bracket)...]
            }
            guard port.isEmpty || port.first == ":" else {
                throw InvalidValue("has text directly behind the \"]\" in its URL")
            }
            // Most likely a password with a "/" or "?" in it, so it is not shown.
            guard port.dropFirst().utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                throw InvalidValue(
                    "has a port in its URL that is not a number; write special characters of a password as % and digits"
                )
            }
            hosts.append(try self.decode(host))
            ports.append(port.dropFirst())
        }
        var assignments: [Assignment] = []
        if hosts != [""] {
            assignments.append(Assignment(key: "host", value: hosts.joined(separator: ",")))
        }
        if ports.contains(where: { !$0.isEmpty }) {
            assignments.append(Assignment(key: "port", value: ports.joined(separator: ",")))
        }
        return assignments
    }

    /// Undoes percent encoding.
    private static func decode(_ text: Substring) throws(InvalidValue) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(self.hexDigit), let low = rest.popFirst().flatMap(self.hexDigit),
                high != 0 || low != 0
            else {
                throw InvalidValue(
                    "has a \"%\" in its URL that is not followed by two hexadecimal digits other than 00")
            }
            bytes.append(high << 4 | low)
        }
        guard let decoded = String(validating: bytes, as: UTF8.self) else {
            throw InvalidValue("is not valid UTF-8 once its URL is decoded")
        }
        return decoded
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        Character(UnicodeScalar(byte)).hexDigitValue.flatMap { UInt8(exactly: $0) }
    }
}
