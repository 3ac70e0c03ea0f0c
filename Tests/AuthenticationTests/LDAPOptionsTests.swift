import TestSupport
import Testing

@testable import Authentication

@Suite struct LDAPOptionsTests {
    private func options(_ text: String) throws -> LDAPOptions {
        let (options, problem) = LDAPOptions.parse(text)
        return try #require(options, "\(problem ?? "")")
    }

    /// What is asked about a user, in words.
    private func question(_ text: String, _ user: String = "joe") throws -> String {
        switch try self.options(text).question(about: user) {
        case nil: "nothing"
        case .bind(let name): name
        case .find(let search, let filter):
            "\(filter) in \(search.base) \(search.scope)" + (search.searcher.map { " by \($0.name)" } ?? "")
        }
    }

    // MARK: Servers

    @Test(arguments: [
        ("ldapserver=a", ["ldap://a:389"]), ("ldapserver=a.b-c_d.e", ["ldap://a.b-c_d.e:389"]),
        ("ldapserver=a ldapport=1389", ["ldap://a:1389"]), ("ldapserver=a ldapscheme=ldap", ["ldap://a:389"]),
        ("ldapserver=a ldapscheme=ldaps", ["ldaps://a:636"]),
        ("ldapserver=a ldapscheme=ldaps ldapport=65535", ["ldaps://a:65535"]),
        (#"ldapserver="a  b c ""#, ["ldap://a:389", "ldap://b:389", "ldap://c:389"]),
        (#"ldapserver="a b" ldapport=1"#, ["ldap://a:1", "ldap://b:1"]),
        ("ldapserver=10.0.0.1", ["ldap://10.0.0.1:389"]),
        ("ldapserver=::1", ["ldap://[::1]:389"]), ("ldapserver=[fd00::1] ldapport=5", ["ldap://[fd00::1]:5"]),
    ])
    func servers(text: String, servers: [String]) throws {
        #expect(try self.options(text + " ldapprefix=x").servers == servers)
    }

    @Test func startTLS() throws {
        #expect(try self.options("ldapserver=a ldapprefix=x ldaptls=1").startsTLS)
        #expect(try !self.options("ldapserver=a ldapprefix=x ldaptls=0").startsTLS)
        #expect(try !self.options("ldapserver=a ldapprefix=x").startsTLS)
    }

    // MARK: What is asked

    @Test(arguments: [
        ("ldapprefix=cn=", "cn=joe"), (#"ldapsuffix="@example.net""#, "joe@example.net"),
        (#"ldapprefix="AD\""#, #"AD\joe"#),
        (#"ldapprefix="cn=" ldapsuffix=", dc=x""#, "cn=joe, dc=x"), (#"ldapprefix="" ldapsuffix="""#, "joe"),
        ("ldapbasedn=dc=x", "(uid=joe) in dc=x subtree"), ("ldapbasedn=", "(uid=joe) in  subtree"),
        (#"ldapbasedn="dc=x, dc=y" ldapsearchattribute=cn"#, "(cn=joe) in dc=x, dc=y subtree"),
        ("ldapbasedn=x ldapsearchattribute=2.5.4.3;lang-en", "(2.5.4.3;lang-en=joe) in x subtree"),
        ("ldapbasedn=x ldapsearchfilter=(cn=$username)", "(cn=joe) in x subtree"),
        ("ldapbasedn=x ldapsearchfilter=(|(a=$username)(b=$username))", "(|(a=joe)(b=joe)) in x subtree"),
        ("ldapbasedn=x ldapsearchfilter=$username$username", "joejoe in x subtree"),
        ("ldapbasedn=x ldapsearchfilter=($user=$usernames)", "($user=joes) in x subtree"),
        (#"ldapbasedn=x ldapbinddn="cn=a" ldapbindpasswd="b c""#, "(uid=joe) in x subtree by cn=a"),
        (#"ldapbasedn=x ldapbinddn="" ldapbindpasswd="""#, "(uid=joe) in x subtree"),
    ])
    func questions(text: String, expected: String) throws {
        #expect(try self.question("ldapserver=a " + text) == expected)
    }

    @Test func passwordsKeepTheirCharactersAndAreNotPrinted() throws {
        let text = #"ldapserver=a ldapbasedn=x ldapbinddn=y ldapbindpasswd="a, ""b"" #c""#
        guard case .find(let search, _) = try self.options(text).question(about: "joe") else {
            Issue.record("no search")
            return
        }
        #expect(search.searcher?.password == SecretBytes(Array(#"a, "b" #c"#.utf8)))
        #expect(!"\(try self.options(text))".contains("#c"))
        // A setting has no remarks, unlike a file of rules.
        let bare = try self.options("ldapserver=a ldapbasedn=x ldapbinddn=y ldapbindpasswd=a#c")
        #expect(bare != (try self.options("ldapserver=a ldapbasedn=x ldapbinddn=y ldapbindpasswd=a")))
    }

    // MARK: Names

    private static let simple = #"ldapserver=a ldapprefix="uid=" ldapsuffix=",dc=x""#
    private static let search = "ldapserver=a ldapbasedn=dc=x"
    private static let bare = #"ldapserver=a ldapsuffix="@x""#

    @Test(arguments: [
        // name, and whether a bind as an entry, a bind as another name and a search take it
        ("joe", true, true, true), ("Joe Doe", true, true, true), ("j", true, true, true),
        ("\u{fc}\u{df}", true, true, true),
        ("$username", true, true, true), ("a#b", true, true, true), ("a'b%c&d|e!f~g:h@i.j-k_l", true, true, true),
        // What ends a value, or is one in another notation.
        ("joe,ou=x", false, false, true), ("joe+cn=x", false, false, true), ("joe;x", false, false, true),
        ("a\"b", false, false, true), ("<joe>", false, false, true), ("#6a6f65", false, false, true),
        ("a\\2cb", false, false, false), ("joe\\", false, false, false),
        // Also where an accent makes another character of it.
        ("a,\u{338}b", false, false, true), ("a*\u{338}b", true, false, false),
        // What a filter understands, and a canonical name.
        ("*", true, false, false), ("joe*", true, false, false), ("joe)(uid=*", true, false, false),
        ("(", true, false, false), (")", true, false, false), ("x.net/joe", true, false, false),
        // Behind a prefix it belongs to the value.
        ("uid=joe", true, false, true),
        // What a directory does not count.
        (" joe", false, false, false), ("joe ", false, false, false), (" ", false, false, false),
        ("", false, false, false), ("jo\ne", false, false, false), ("jo\te", false, false, false),
        ("jo\u{7f}e", false, false, false),
    ])
    func names(name: String, entry: Bool, other: Bool, search: Bool) throws {
        #expect(try self.question(Self.simple, name) == (entry ? "uid=\(name),dc=x" : "nothing"))
        #expect(try self.question(Self.bare, name) == (other ? "\(name)@x" : "nothing"))
        #expect(try self.question(Self.search, name) == (search ? "(uid=\(name)) in dc=x subtree" : "nothing"))
    }

    /// Whatever the name, a filter has the parentheses and stars of its pattern, and an entry's name its separators.
    @Test func noNameAddsToWhatIsAsked() throws {
        let simple = try self.options(Self.simple)
        let search = try self.options("ldapserver=a ldapbasedn=x ldapsearchfilter=(|(uid=$username)(cn=$username))")
        var random = SeededGenerator(seed: 11)
        let alphabet = Array("ab ,+;=*()\\/#<>\"&|!~:\u{338}\u{e9}\u{1}".unicodeScalars)
        for _ in 0..<5_000 {
            var name = ""
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                name.unicodeScalars.append(alphabet[Int.random(in: 0..<alphabet.count, using: &random)])
            }
            if case .bind(let bound)? = simple.question(about: name) {
                #expect(bound.utf8.filter { ",+;\\\"<>".utf8.contains($0) } == Array(",".utf8), "\(name)")
            }
            if case .find(_, let filter)? = search.question(about: name) {
                #expect(filter.utf8.filter { "()*\\\0".utf8.contains($0) } == Array("(()())".utf8), "\(name)")
            }
        }
    }

    // MARK: URLs

    @Test(arguments: [
        ("ldap://h/dc=x", "(uid=joe) in dc=x base", "ldap://h:389"),
        ("LDAP://h/dc=x", "(uid=joe) in dc=x base", "ldap://h:389"),
        ("ldaps://h/dc=x??sub", "(uid=joe) in dc=x subtree", "ldaps://h:636"),
        ("ldap://h:1389/dc=x?cn?one", "(cn=joe) in dc=x oneLevel", "ldap://h:1389"),
        ("ldap://h/dc=x?cn?SUBTREE?", "(cn=joe) in dc=x subtree", "ldap://h:389"),
        ("ldap://h/dc=x???(cn=$username)", "(cn=joe) in dc=x base", "ldap://h:389"),
        ("ldap://h/dc=x??sub?(cn=%24username%3f)", "(cn=joe?) in dc=x subtree", "ldap://h:389"),
        ("ldap://h/o=a%20b%2c+c??sub", "(uid=joe) in o=a b,+c subtree", "ldap://h:389"),
        ("ldap://h/", "(uid=joe) in  base", "ldap://h:389"),
        ("ldap://h/??sub", "(uid=joe) in  subtree", "ldap://h:389"),
        ("ldap://[::1]:5/dc=x", "(uid=joe) in dc=x base", "ldap://[::1]:5"),
        ("ldap://[::1]/dc=x", "(uid=joe) in dc=x base", "ldap://[::1]:389"),
        ("ldap://h%2ey/dc=x", "(uid=joe) in dc=x base", "ldap://h.y:389"),
        ("ldap://h%20i/dc=x", "(uid=joe) in dc=x base", "ldap://h:389 ldap://i:389"),
    ])
    func urls(url: String, question: String, servers: String) throws {
        #expect(try self.question(#"ldapurl="\#(url)""#) == question)
        #expect(try self.options(#"ldapurl="\#(url)""#).servers.joined(separator: " ") == servers)
    }

    @Test(arguments: [
        ("ldapurl=ldap://h ldapprefix=cn=", "cn=joe"), ("ldapurl=ldap://h ldapbasedn=dc=x", "(uid=joe) in dc=x base"),
        ("ldapurl=ldap:///dc=x??sub ldapserver=h", "(uid=joe) in dc=x subtree"),
        ("ldapurl=ldap://h/dc=x??sub ldapport=5", "(uid=joe) in dc=x subtree"),
        ("ldapsearchattribute=cn ldapurl=ldap://h/dc=x??sub", "(cn=joe) in dc=x subtree"),
        ("ldapurl=ldap://h/dc=x ldapbinddn=a ldapbindpasswd=b", "(uid=joe) in dc=x base by a"),
    ])
    func urlsWithOtherOptions(text: String, question: String) throws {
        #expect(try self.question(text) == question)
    }

    // MARK: What is refused

    @Test(arguments: [
        ("", "ldapserver is missing; servers are not looked up in DNS"),
        ("ldapserver= ldapprefix=x", "ldapserver is empty"),
        ("ldapbasedn=dc=x", "ldapserver is missing; servers are not looked up in DNS"),
        ("ldapserver=a:389 ldapprefix=x", "is not the name of a server: a:389; a port goes into ldapport"),
        ("ldapserver=ldap://a ldapprefix=x", "is not the name of a server: ldap://a; a port goes into ldapport"),
        ("ldapserver=a/b ldapprefix=x", "is not the name of a server: a/b"),
        ("ldapserver=[a] ldapprefix=x", "is not the name of a server: [a]"),
        ("ldapserver=a ldapport=0 ldapprefix=x", "ldapport must be a number from 1 to 65535"),
        ("ldapserver=a ldapport= ldapprefix=x", "ldapport must be a number from 1 to 65535"),
        ("ldapserver=a ldapport=+1 ldapprefix=x", "ldapport must be a number from 1 to 65535"),
        ("ldapserver=a ldapport=65536 ldapprefix=x", "ldapport must be a number from 1 to 65535"),
        ("ldapserver=a ldapscheme=ldapi ldapprefix=x", "ldapscheme must be ldap or ldaps"),
        ("ldapserver=a ldaptls=on ldapprefix=x", "ldaptls must be 0 or 1"),
        ("ldapserver=a ldaptls= ldapprefix=x", "ldaptls must be 0 or 1"),
        (
            "ldapserver=a ldaptls=1 ldapscheme=ldaps ldapprefix=x",
            "ldaptls=1 begins TLS inside TLS with ldaps; leave one of the two out"
        ),
        ("ldapserver=a", "one of ldapbasedn, ldapprefix and ldapsuffix is needed"),
        (
            "ldapserver=a ldapprefix=x ldapbasedn=y",
            "ldapbasedn is for search, ldapprefix for a simple bind; leave one of the two out"
        ),
        (
            "ldapserver=a ldapsuffix= ldapsearchfilter=y",
            "ldapsearchfilter is for search, ldapsuffix for a simple bind; leave one of the two out"
        ),
        (
            "ldapurl=ldap://a/ ldapprefix=x",
            "ldapbasedn is for search, ldapprefix for a simple bind; leave one of the two out"
        ),
        (
            "ldapserver=a ldapbasedn=x ldapbinddn=y",
            "ldapbinddn needs ldapbindpasswd; leave both out to search as nobody"
        ),
        ("ldapserver=a ldapbasedn=x ldapbindpasswd=y", "ldapbindpasswd needs ldapbinddn, whose password it is"),
        (
            "ldapserver=a ldapbasedn=x ldapsearchattribute=y ldapsearchfilter=z",
            "ldapsearchattribute and ldapsearchfilter exclude each other; leave one of the two out"
        ),
        (
            "ldapurl=ldap://a/x?y??(z=$username)",
            "ldapsearchattribute and ldapsearchfilter exclude each other; leave one of the two out"
        ),
        (
            "ldapserver=a ldapbasedn=x ldapsearchfilter=(uid=joe)",
            "ldapsearchfilter must contain $username, or one password lets in under any name"
        ),
        (
            "ldapserver=a ldapbasedn=x ldapsearchfilter=",
            "ldapsearchfilter must contain $username, or one password lets in under any name"
        ),
        ("ldapserver=a ldapbasedn=x ldapsearchattribute=", "ldapsearchattribute must be the name of one attribute"),
        ("ldapserver=a ldapbasedn=x ldapsearchattribute=u)(x", "ldapsearchattribute must be the name of one attribute"),
        ("ldapurl=ldap://a/x?y%2cz", "ldapsearchattribute must be the name of one attribute"),
        ("ldapserver=a ldapserver=b ldapprefix=x", "ldapserver is given twice"),
        ("ldapurl=ldap://a/x ldapserver=b", "ldapserver is given twice, perhaps by ldapurl"),
        ("ldapurl=ldap://a/x ldapscheme=ldap", "ldapscheme is given twice, perhaps by ldapurl"),
        ("ldapurl=ldap://a:5/x ldapport=5", "ldapport is given twice, perhaps by ldapurl"),
        (
            "ldapserver=a ldapfoo=b",
            "option ldapfoo is not supported; a value with blanks or commas needs double quotes"
        ),
        // A password that stands without quotes is not repeated.
        (
            "ldapserver=a ldapbasedn=x ldapbinddn=y ldapbindpasswd=my secret",
            "options of method ldap are name=value; a value with blanks or commas needs double quotes"
        ),
        (
            "ldapserver=a ldapbasedn=x ldapbinddn=y ldapbindpasswd=my,secret=x",
            "options of method ldap are name=value; a value with blanks or commas needs double quotes"
        ),
        ("ldapserver=\"a", "a double quote is not closed"),
        ("ldapurl=http://a/x", "ldapurl must begin with ldap:// or ldaps://"),
        ("ldapurl=ldapi://a/x", "ldapurl must begin with ldap:// or ldaps://"),
        ("ldapurl=", "ldapurl must begin with ldap:// or ldaps://"),
        ("ldapurl=ldap://", "ldapserver is missing; servers are not looked up in DNS"),
        ("ldapurl=ldap://a:/x", "ldapport must be a number from 1 to 65535"),
        ("ldapurl=ldap://a:x/x", "ldapport must be a number from 1 to 65535"),
        ("ldapurl=ldap://u@a/x", "is not the name of a server: u@a"),
        ("ldapurl=ldap://a/x??all", "the scope in ldapurl must be base, one or sub"),
        ("ldapurl=ldap://a/x???(uid=$username)?!ext", "extensions in ldapurl are not supported"),
        ("ldapurl=ldap://a/%2", "in ldapurl % must be followed by two hexadecimal digits, not 00"),
        ("ldapurl=ldap://a/%zz", "in ldapurl % must be followed by two hexadecimal digits, not 00"),
        ("ldapurl=ldap://a/%00", "in ldapurl % must be followed by two hexadecimal digits, not 00"),
        ("ldapurl=ldap://a/%ff", "ldapurl is not valid UTF-8"),
        ("ldapurl=ldap://a/x ldaptls=1 ldapurl=ldap://b/x", "ldapurl is given twice, perhaps by ldapurl"),
        ("ldapurl=ldaps://a/x ldaptls=1", "ldaptls=1 begins TLS inside TLS with ldaps; leave one of the two out"),
    ])
    func refused(text: String, problem: String) {
        let result = LDAPOptions.parse(text)
        #expect(result.options == nil)
        #expect(result.problem == problem)
    }
}
