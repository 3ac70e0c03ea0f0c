import Testing

@testable import Authentication

struct IdentMapTests {
    private func maps(_ text: String) -> (maps: IdentMaps, problems: [String]) {
        IdentMaps.parse(Array(text.utf8).span, file: "/etc/ident", read: { _ in .failure(NoSuchFile()) })
    }

    private static let text = #"""
        # map   system-name                 user
        staff   joe                         app
        staff   joe                         "reports"
        staff   ann                         all
        staff   "bob smith"                 bob
        quoted  joe                         "all"
        mail    /^(.*)@example\.com$        \1
        mail    /^(.*)@partner\.example$    guest
        mail    /^(\w+)-admin$              dba_\1_x
        any     /^                          all
        list    "/^(ann|bob), (staff)$"     \1
        """#

    @Test(arguments: [
        // Without a map the names have to be the same.
        (nil, "joe", "joe", true), (nil, "joe", "app", false), (nil, "joe", "Joe", false),
        (nil, "\u{212A}ate", "Kate", false),
        ("staff", "joe", "app", true), ("staff", "joe", "reports", true), ("staff", "joe", "joe", false),
        ("staff", "ann", "whoever", true), ("staff", "bob smith", "bob", true), ("staff", "eve", "app", false),
        ("quoted", "joe", "all", true), ("quoted", "joe", "x", false),
        ("mail", "ann@example.com", "ann", true), ("mail", "ann@example.com", "bob", false),
        ("mail", "ann@exampleXcom", "ann", false), ("mail", "ann@example.com.evil", "ann", false),
        ("mail", "ann@partner.example", "guest", true), ("mail", "joe-admin", "dba_joe_x", true),
        ("mail", "joe-admin", "dba_ann_x", false), ("any", "", "x", true), ("any", "y", "x", true),
        ("list", "bob, staff", "bob", true), ("nomap", "joe", "joe", false),
    ])
    func allows(map: String?, system: String, user: String, isAllowed: Bool) {
        let (maps, problems) = self.maps(Self.text)
        #expect(problems.isEmpty)
        #expect(maps.allow(system, as: user, map: map) == isAllowed)
    }

    @Test(arguments: [
        ("staff joe", "a line has a map, a system name and a user"),
        ("staff joe a b", "a line has a map, a system name and a user"),
        ("staff joe,ann app", "a list has no place here: one name for each line"),
        ("staff joe +app", "+app: membership in a role is not known here, name the users"),
        ("staff joe /^a", "a regular expression for the user is not supported"),
        ("staff /( app", "is not a regular expression: ("),
        (#"staff /^a(?:b)\(c[(]$ \1"#, #"\1: the regular expression has no part in parentheses"#),
        ("staff \"joe app", "a double quote is not closed"),
    ])
    func errorsNameTheirPlace(line: String, problem: String) {
        #expect(self.maps("\n\(line)").problems == ["/etc/ident:2: \(problem)"])
    }

    @Test func aPartThatTookNoPartIsEmpty() {
        let maps = self.maps(#"m /^(a)?b$ x\1"#).maps
        #expect(maps.allow("b", as: "x", map: "m"))
        #expect(maps.allow("ab", as: "xa", map: "m"))
        #expect(!maps.allow("ab", as: "x", map: "m"))
    }
}
