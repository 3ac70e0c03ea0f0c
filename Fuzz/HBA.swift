@testable import Authentication

extension FuzzTarget {
    /// The file that says who may connect, and how.
    static let hba = FuzzTarget(name: "hba") { bytes in
        let (hba, problems) = load(bytes)
        try expect((hba == nil) == !problems.isEmpty, "rules and problems, or neither")
        // One broken line, and no rule holds. (A backslash at the end goes on with the blank one.)
        let broken = load(bytes + Array("\n\nhost all all 10.0.0.1/33 trust\n".utf8))
        try expect(broken.hba == nil, "takes a file with a broken line")
        guard let hba else { return }
        try checkRemarks(bytes, hba)
        for client in clients { try checkVerdict(hba, client) }
    }

    private static func load(_ bytes: [UInt8]) -> (hba: HBA?, problems: [String]) {
        let maps = IdentMaps.parse(Array("m a b\nn /^(.*)@x$ \\1".utf8).span, file: "ident") { _ in .success([]) }.maps
        return HBA.parse(bytes.span, file: "hba", identMaps: maps) {
            $0 == "names" ? .success(Array("app, \"web\"\n@names2".utf8)) : .success(Array("x y".utf8))
        }
    }

    /// Remarks and blank lines in front of a file mean nothing. (Between its lines they may end one that goes on.)
    private static func checkRemarks(_ bytes: [UInt8], _ hba: HBA) throws {
        guard let other = load(Array("# host all all all trust\n\n \t# \"\n".utf8) + bytes).hba else {
            throw Broken(description: "refused with remarks in front of it")
        }
        try expect(hba.rules.count == other.rules.count, "remarks make a rule")
        for client in clients {
            try expect(
                method(hba.verdict(on: client) { [] }) == method(other.verdict(on: client) { [] }), "remarks count")
        }
    }

    private static func method(_ verdict: HBA.Verdict) -> HBARule.Method? {
        if case .rule(let rule) = verdict { rule.method } else { nil }
    }

    private static let clients: [HBAClient] = ["app", "postgres", "", "a\"b"].flatMap { user in
        [
            HBAClient(address: nil, isUnix: true, isEncrypted: false, database: "app", user: user),
            HBAClient(
                address: NetworkAddress("127.0.0.1"), isUnix: false, isEncrypted: false, database: "app", user: user),
            HBAClient(
                address: NetworkAddress("10.1.2.3"), isUnix: false, isEncrypted: true, database: user, user: user),
            HBAClient(
                address: NetworkAddress("::1"), isUnix: false, isEncrypted: true, database: "x", user: user,
                isReplication: true),
        ]
    }

    private static let interfaces = [NetworkAddress("10.0.0.1").flatMap { Network($0, prefix: 8) }].compactMap { $0 }

    /// A rule that is found is about that client, as far as its words can be read without the machinery that found it.
    private static func checkVerdict(_ hba: HBA, _ client: HBAClient) throws {
        for name in [HBAClient.HostName.notLookedUp, .known(nil), .known("a.example.com")] {
            var client = client
            client.hostName = name
            let verdict = hba.verdict(on: client) { interfaces }
            if case .needsHostName = verdict {
                try expect(name == .notLookedUp && !client.isUnix, "asks again for a name that it has")
            }
            guard case .rule(let rule) = verdict else { continue }
            try expect(hba.rules.contains(rule), "a rule from elsewhere")
            try expect((rule.connection == .local) == client.isUnix, "local and not")
            try expect(rule.connection != .hostssl || client.isEncrypted, "hostssl without TLS")
            try expect(rule.connection != .hostnossl || !client.isEncrypted, "hostnossl with TLS")
            try expect(rule.connection != .hostgssenc, "GSS, which there is none of")
            try expect(rule.method != .peer || client.isUnix, "peer by TCP")
            try expect(rule.method != .cert || client.isEncrypted, "cert without TLS")
            try expect((rule.ldap != nil) == (rule.method == .ldap), "a directory without its method")
            if let options = rule.ldap { try checkDirectory(options) }
            try expect(rule.map == nil || rule.method == .peer || rule.method == .cert, "a map without names")
            try expect(!client.isReplication || rule.databases.contains(.replication), "replication without leave")
        }
    }

    /// Whatever the options, names add nothing to what a directory is asked.
    private static func checkDirectory(_ options: LDAPOptions) throws {
        try expect(!options.servers.isEmpty, "a directory without a server")
        for server in options.servers {
            try expect(!server.utf8.contains { $0 <= 0x20 || $0 >= 0x7f }, "a server that is several: \(server)")
        }
        guard let plain = options.question(about: "u") else { return }
        for name in ["*", "u)(uid=*", "u,dc=x", "u+cn=x", "#75", "u\\2c", " u", "u\n", "u/x", "uid=u"] {
            switch (plain, options.question(about: name)) {
            case (_, nil): continue
            case (.bind(let plain), .bind(let other)?):
                for byte in ",+;\\\"<>".utf8 {
                    try expect(count(byte, plain) == count(byte, other), "\(name) adds to a name")
                }
            case (.find(_, let plain), .find(_, let other)?):
                for byte in "()*\\".utf8 {
                    try expect(count(byte, plain) == count(byte, other), "\(name) adds to a filter")
                }
            default: try expect(false, "asked in another way")
            }
        }
    }

    private static func count(_ byte: UInt8, _ text: String) -> Int { text.utf8.count { $0 == byte } }
}
