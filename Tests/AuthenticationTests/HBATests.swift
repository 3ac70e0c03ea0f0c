import TestSupport
import Testing

@testable import Authentication

struct NoSuchFile: Error, CustomStringConvertible {
    let description = "No such file or directory"
}

/// Reads rules; `files` are those that may be named by `@`.
func hba(
    _ text: String, files: [String: String] = [:], maps: String = ""
) -> (hba: HBA?, problems: [String]) {
    let read: (String) -> Result<[UInt8], any Error> = { path in
        files[path].map { .success(Array($0.utf8)) } ?? .failure(NoSuchFile())
    }
    let (maps, _) = IdentMaps.parse(Array(maps.utf8).span, file: "/etc/ident", read: read)
    return HBA.parse(Array(text.utf8).span, file: "/etc/hba", identMaps: maps, read: read)
}

/// The place of the rule that a client meets; "none", or "name?" when its host's name is asked for.
func verdict(
    _ hba: HBA?, _ address: String? = "10.0.0.1", database: String = "shop", user: String = "app", tls: Bool = false,
    replication: Bool = false, host: HBAClient.HostName = .notLookedUp, interfaces: [Network] = []
) -> String {
    guard let hba else { return "no rules" }
    var client = HBAClient(
        address: address.flatMap { NetworkAddress($0) }, isUnix: address == nil, isEncrypted: tls, database: database,
        user: user, isReplication: replication)
    client.hostName = host
    switch hba.verdict(on: client, interfaces: { interfaces }) {
    case .rule(let rule): return "\(rule.place.dropFirst("/etc/hba:".count)) \(rule.method.rawValue)"
    case .none: return "none"
    case .needsHostName: return "name?"
    }
}

struct HBATests {
    @Test func theFirstRuleThatFitsCounts() {
        let rules = hba(
            """
            # comment
            host all all 10.0.0.0/8 trust   # the rest is a comment too

            host all all 10.0.0.1/32 reject
            host all all all scram-sha-256
            """)
        #expect(rules.problems.isEmpty)
        #expect(verdict(rules.hba, "10.0.0.1") == "2 trust")
        #expect(verdict(rules.hba, "11.0.0.1") == "5 scram-sha-256")
        #expect(verdict(rules.hba, nil) == "none")
    }

    @Test(arguments: [
        // type, Unix socket, without TLS, with TLS
        ("local all all md5", true, false, false), ("host all all all md5", false, true, true),
        ("hostssl all all all md5", false, false, true), ("hostnossl all all all md5", false, true, false),
        ("hostgssenc all all all md5", false, false, false), ("hostnogssenc all all all md5", false, true, true),
    ])
    func typesOfConnection(line: String, unix: Bool, plain: Bool, tls: Bool) {
        let rules = hba(line).hba
        #expect((verdict(rules, nil) == "1 md5") == unix)
        #expect((verdict(rules, tls: false) == "1 md5") == plain)
        #expect((verdict(rules, tls: true) == "1 md5") == tls)
    }

    @Test(arguments: [
        ("all", "shop", "app", true), ("shop", "shop", "app", true), ("shop", "shops", "app", false),
        ("Shop", "shop", "app", false), ("a,shop,b", "shop", "app", true), ("a, shop,  b", "shop", "app", true),
        ("sameuser", "shop", "app", false), ("sameuser", "app", "app", true),
        ("replication", "replication", "app", false),
        // In quotes a word means itself.
        (#""all""#, "shop", "app", false), (#""all""#, "all", "app", true), (#""sameuser""#, "sameuser", "app", true),
        (#""replication""#, "replication", "app", true), (#""my shop""#, "my shop", "app", true),
        (#""a,b""#, "a,b", "app", true), (#""say ""hi""""#, #"say "hi""#, "app", true),
        (#"sh"o"p"#, "shop", "app", true),
        (#""@shop""#, "@shop", "app", true), (#""""#, "", "app", true), ("\"#1\"", "#1", "app", true),
        ("/^sh", "shop", "app", true), ("/^sh$", "shop", "app", false), (#""/^(a,|s)h""#, "shop", "app", true),
        ("b\u{e4}r", "b\u{e4}r", "app", true),
    ])
    func databases(column: String, database: String, user: String, fits: Bool) {
        let rules = hba("host \(column) all all trust")
        #expect(rules.problems.isEmpty)
        #expect(verdict(rules.hba, database: database, user: user) == (fits ? "1 trust" : "none"))
    }

    @Test(arguments: [
        ("all", "app", true), ("app", "app", true), ("app", "App", false), ("x,app", "app", true),
        ("x,y", "app", false),
        (#""all""#, "app", false), (#""+app""#, "+app", true), ("/^a.p$", "app", true), ("/^a.p$", "appx", false),
        ("sameuser", "sameuser", true), ("sameuser", "app", false),
    ])
    func users(column: String, user: String, fits: Bool) {
        #expect(verdict(hba("host all \(column) all trust").hba, user: user) == (fits ? "1 trust" : "none"))
    }

    @Test func onlyTheWordReplicationIsAboutReplication() {
        for column in ["all", "shop", "sameuser", #""replication""#] {
            #expect(verdict(hba("host \(column) all all trust").hba, database: "app", replication: true) == "none")
        }
        let both = hba("host shop,replication all all trust").hba
        #expect(verdict(both, replication: true) == "1 trust")
        #expect(verdict(both) == "1 trust")
    }

    @Test(arguments: [
        ("all", "1.2.3.4", true), ("all", "::1", true), ("10.0.0.0/8", "10.3.2.1", true),
        ("10.0.0.0/8", "::ffff:10.3.2.1", true), ("10.0.0.0/8", "11.0.0.0", false), ("10.9.9.9/8", "10.3.2.1", true),
        ("10.0.0.0 255.0.0.0", "10.3.2.1", true), ("10.0.0.0  255.0.0.0", "11.3.2.1", false),
        ("0.0.0.0/0", "8.8.8.8", true), ("0.0.0.0/0", "::1", false), ("::/0", "::1", true), ("::/0", "8.8.8.8", false),
        ("::1/128", "::1", true), ("fd00:: ff00::", "fd12::1", true), ("fd00:: ff00::", "fe12::1", false),
    ])
    func addresses(column: String, address: String, fits: Bool) {
        let rules = hba("host all all \(column) md5")
        #expect(rules.problems.isEmpty)
        #expect(verdict(rules.hba, address) == (fits ? "1 md5" : "none"))
    }

    @Test func ownAddressesAndNetworks() throws {
        let interfaces = [
            try network("192.168.5.10", 24),
            try network("::1", 128),
        ]
        let host = hba("host all all samehost trust").hba
        #expect(verdict(host, "192.168.5.10", interfaces: interfaces) == "1 trust")
        #expect(verdict(host, "::1", interfaces: interfaces) == "1 trust")
        #expect(verdict(host, "192.168.5.11", interfaces: interfaces) == "none")
        let net = hba("host all all samenet trust").hba
        #expect(verdict(net, "192.168.5.11", interfaces: interfaces) == "1 trust")
        #expect(verdict(net, "192.168.6.11", interfaces: interfaces) == "none")
    }

    @Test(arguments: [
        ("db.example.com", "db.example.com", true), ("DB.Example.com", "db.eXample.com", true),
        ("db.example.com", "xdb.example.com", false), (".example.com", "db.example.com", true),
        (".example.com", "example.com", false), (".example.com", "badexample.com", false),
        (".example.com", ".example.com", false),
    ])
    func hostNames(column: String, name: String, fits: Bool) {
        let rules = hba("host all all \(column) trust").hba
        #expect(verdict(rules) == "name?")
        #expect(verdict(rules, host: .known(name)) == (fits ? "1 trust" : "none"))
        #expect(verdict(rules, host: .known(nil)) == "none")
    }

    @Test func namesAreAskedForOnlyWhenARuleNeedsThem() {
        let rules = hba(
            """
            host other all db.example.com trust
            host all all 10.0.0.1/32 md5
            host all all db.example.com reject
            """
        ).hba
        #expect(verdict(rules, "10.0.0.1") == "2 md5")
        #expect(verdict(rules, "10.0.0.2") == "name?")
        #expect(verdict(rules, "10.0.0.2", host: .known("db.example.com")) == "3 reject")
    }

    @Test(arguments: [
        ("trust", HBARule.Method.trust), ("reject", .reject), ("md5", .md5), ("password", .password),
        ("plain", .password), ("scram-sha-256", .scramSHA256), ("\"trust\"", .trust),
    ])
    func methods(word: String, method: HBARule.Method) {
        #expect(hba("host all all all \(word)").hba?.rules.first?.method == method)
    }

    @Test func peerAndCertificatesWithMaps() {
        let rules = hba(
            "local all all peer map=staff\nlocal all all ident\nhostssl all all all cert map=\"staff\"",
            maps: "staff joe joe")
        #expect(rules.problems.isEmpty)
        #expect(rules.hba?.rules.map(\.method) == [.peer, .peer, .cert])
        #expect(rules.hba?.rules.map(\.map) == ["staff", nil, "staff"])
    }

    @Test func directories() {
        let rules = hba(#"host all all all ldap ldapserver="a b" ldapprefix="cn=" ldapsuffix=", dc=x" # a remark"#)
        #expect(rules.problems.isEmpty)
        #expect(rules.hba?.rules.map(\.method) == [.ldap])
        #expect(rules.hba?.rules.first?.ldap?.question(about: "joe") == .bind("cn=joe, dc=x"))
        #expect(rules.hba?.rules.first?.ldap?.servers == ["ldap://a:389", "ldap://b:389"])
    }

    @Test func namesFromFiles() {
        let rules = hba(
            "host @dbs @users.txt,joe all trust",
            files: [
                "/etc/dbs": "shop, crm\n# comment\n\"all\"", "/etc/users.txt": "app\n@/more/users",
                "/more/users": "@deep",
                "/more/deep": "ann bob",
            ])
        #expect(rules.problems.isEmpty)
        for (database, user) in [("shop", "app"), ("crm", "ann"), ("all", "bob"), ("shop", "joe")] {
            #expect(verdict(rules.hba, database: database, user: user) == "1 trust")
        }
        #expect(verdict(rules.hba, database: "x", user: "app") == "none")
        #expect(verdict(rules.hba, database: "shop", user: "x") == "none")
    }

    @Test func anEmptyFileOfNamesFitsNobody() {
        #expect(verdict(hba("host @none all all trust", files: ["/etc/none": "# nobody\n"]).hba) == "none")
    }

    @Test func aRuleMayGoOverLines() {
        let rules = hba("host all \\\n  app \\\r\n all trust\nhost all all all reject")
        #expect(verdict(rules.hba, user: "app") == "1 trust")
        #expect(verdict(rules.hba, user: "joe") == "4 reject")
    }

    @Test(arguments: [
        ("hosts all all all trust", "unknown type of connection: hosts"),
        ("include other.conf", "unknown type of connection: include"),
        ("host", "the database is missing"), ("host all", "the user is missing"),
        ("host all all", "the address is missing"),
        ("host all all all", "the method is missing"), ("local all all", "the method is missing"),
        ("host,local all all all trust", "the type of connection must be one word, not a list"),
        ("host all all all trust,md5", "the method must be one word, not a list"),
        ("host all all 10.0.0.1,10.0.0.2 trust", "there can be only one address"),
        (
            "host samerole all all trust",
            "samerole: membership in a role is not known here, name the databases or users"
        ),
        (
            "host samegroup all all trust",
            "samegroup: membership in a role is not known here, name the databases or users"
        ),
        ("host all +staff all trust", "+staff: membership in a role is not known here, name the users or an @file"),
        ("host all /( all trust", "is not a regular expression: ("),
        ("host all all 10.0.0.0/33 trust", "bad number of bits: 10.0.0.0/33"),
        ("host all all 10.0.0.0/ trust", "bad number of bits: 10.0.0.0/"),
        ("host all all 10.0.0.0/+8 trust", "bad number of bits: 10.0.0.0/+8"),
        ("host all all 10.0.0.1 trust", "10.0.0.1 needs the number of its bits (10.0.0.1/32), or a mask"),
        ("host all all 10.0.0.1 ffff:: trust", "address 10.0.0.1 and mask ffff:: are of different families"),
        ("host all all 10.0.0 trust", "is neither an address nor a host name: 10.0.0"),
        ("host all all a/8 trust", "is neither an address nor a host name: a/8"),
        ("host all all all nonsense", "unknown method: nonsense"),
        ("host all all all ldap", "ldapserver is missing; servers are not looked up in DNS"),
        (
            "host all all all ldap ldapserver=a ldapprefix=b map=x",
            "options of method ldap are name=value; a value with blanks or commas needs double quotes"
        ),
        ("host all all all pam", "method pam is not supported"),
        ("host all all all ident", "method ident is not supported"),
        ("host all all all peer", "method peer is for Unix sockets (local) only"),
        ("host all all all cert", "method cert is for connections with TLS (hostssl) only"),
        ("local all all peer map=nomap", "map=nomap: there is no such map in auth_ident_file"),
        ("local all all peer map=", "map= needs the name of a map"),
        ("host all all all md5 map=x", "option map is for the methods peer and cert only"),
        ("hostssl all all all md5 clientcert=verify-full", "option clientcert is not supported"),
        ("host all all all md5 x", "an option must be name=value: x"),
        ("host \"all all all trust", "a double quote is not closed"),
        ("host @nofile all all trust", "cannot read /etc/nofile: No such file or directory"),
        ("host @loop all all trust", "/etc/loop:2: files name each other by @ too deeply"),
        ("host @bad all all trust", "/etc/bad:1: a double quote is not closed"),
    ])
    func errorsNameTheirPlace(line: String, problem: String) {
        let rules = hba(
            "host all all all reject\n\(line)\n", files: ["/etc/loop": "# again\n@loop", "/etc/bad": "\"x"],
            maps: "staff joe joe")
        #expect(rules.hba == nil)
        #expect(rules.problems == ["/etc/hba:2: \(problem)"])
    }

    @Test func allErrorsAreToldAtOnce() {
        #expect(hba("x\n\nhost all all all trust\ny").problems.count == 2)
    }

    @Test(
        "a backslash goes on with the next line only, however many stand before it",
        arguments: [
            ("# C:\\\\\n\nhost all all all nonsense\n", ["h:3: unknown method: nonsense"]),
            ("# C:\\\nhost all all all nonsense\n", []),
            ("host all all all\\\n\\\n nonsense\n", ["h:1: unknown method: nonsense"]),
        ])
    func continuedLines(text: String, problems: [String]) {
        let found = HBA.parse(Array(text.utf8).span, file: "h", read: { _ in .failure(NoSuchFile()) })
        #expect(found.problems == problems)
    }

    @Test func bytesThatAreNoTextAreRefused() {
        for bytes: [UInt8] in [[0xff], [0xc3], [0x61, 0, 0x62]] {
            let line = Array("host all ".utf8) + bytes + Array(" all trust".utf8)
            let problems = HBA.parse(line.span, file: "h", read: { _ in .failure(NoSuchFile()) }).problems
            #expect(problems == ["h:1: is not valid UTF-8"])
        }
    }

    /// Whatever a file holds, reading it ends without a trap.
    @Test func mutatedFilesAreReadOrRefused() {
        let seed = Array(
            "local all \"a b\",@x peer map=m\nhost /^a(b)$ +r 10.0.0.0 255.0.0.0 trust\nhostssl x y ::1/128 cert\\\n"
                .utf8)
        var random = SeededGenerator(seed: 7)
        for _ in 0..<3000 {
            var bytes = seed
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: index)
                default: bytes.insert(contentsOf: "\"@/,#\\ \n".utf8.shuffled(using: &random).prefix(2), at: index)
                }
            }
            let read: (String) -> Result<[UInt8], any Error> = { _ in .success(Array("@y \"z\"".utf8)) }
            let (maps, _) = IdentMaps.parse(bytes.span, file: "i", read: read)
            let (hba, problems) = HBA.parse(bytes.span, file: "h", identMaps: maps, read: read)
            #expect((hba == nil) == !problems.isEmpty)
            _ = verdict(hba)
        }
    }
}
