import Testing

@testable import SQL

@Suite struct ShapeTests {
    static func shape(_ text: String, standardConformingStrings: Bool = true) -> String {
        self.shape(Array(text.utf8), standardConformingStrings: standardConformingStrings)
    }

    static func shape(_ text: [UInt8], standardConformingStrings: Bool = true) -> String {
        var buffer = [UInt8](repeating: 0xEE, count: ShapeWriter.capacity(for: text.span))
        let (count, _, _) = ShapeWriter.write(
            text.span, standardConformingStrings: standardConformingStrings, into: buffer.mutableSpan)
        return String(decoding: buffer[0..<count], as: UTF8.self)
    }

    @Test(
        arguments: [
            // White space and comments
            ("", ""), (" \t\r\n\u{B}\u{C}", ""), (";", ""), (" ; ;", ""), ("-- x", ""), ("/* x */", ""),
            ("select  1", "select 1"), ("select\n1\n;\n", "select 1"), ("select/**/a", "select a"),
            ("select--x\na", "select a"), ("select--x\ra", "select a"), ("a/* /* */ */b", "a b"), ("a/*/**/*/b", "a b"),
            ("a /* ' */ b", "a b"), ("a -- '\n b", "a b"), ("a - -b", "a- -b"), ("a + /* x */ - b", "a+ -b"),
            ("a+/**/-b", "a+ -b"), ("a @-- x\n b", "a@b"), ("a*/*x*/b", "a*b"),
            ("select 1;select 2;", "select 1;select 1"),
            ("f ( a , b ) . c", "f(a,b).c"), ("a.b . c", "a.b.c"), ("a [ 1 ]", "a[1]"),
            // Strings
            ("'a'", "'x'"), ("''", "'x'"), ("'it''s'", "'x'"), ("'a\\'", "'x'"), ("'a'  'b'", "'x' 'x'"),
            ("'a'\n'b'", "'x'"), ("'a' -- c\n  'b'", "'x'"), ("'a' -- c\n -- d\n'b'", "'x'"),
            ("'a' /* */\n'b'", "'x' 'x'"),
            ("E'a\\'b'", "'x'"), ("e'\\\\'", "'x'"), ("E'a'\n'b\\'c'", "'x'"), ("n'a'", "'x'"), ("B'1'", "'x'"),
            ("x'1F'", "'x'"), ("B'1''0'", "'x' 'x'"), ("B'1'\n'0'", "'x'"),
            ("U&'\\0061'", "U&'x'"), ("u&'a' uescape '!'", "U&'x' uescape '!'"),
            ("u&'a'UESCAPE'!'", "U&'x' UESCAPE '!'"),
            ("uescape 'abc'", "uescape 'x'"), ("uescape '\\'", "uescape '\\'"), ("uescape E'\\''", "uescape 'x'"),
            ("ae'x'", "ae 'x'"), ("e 'x'", "e 'x'"), ("u & 'x'", "u& 'x'"), ("u & \"x\"", "u& \"x\""),
            ("u&\"x\"", "u&\"x\""),
            ("$$a'b$$", "'x'"), ("$a$ $b$ $$ $a$", "'x'"), ("$a$$a$", "'x'"), ("$é1$x$é1$", "'x'"), ("a$b$c", "a$b$c"),
            ("$a$ $a $a$", "'x'"), ("select$$a$$", "select$$a$$"), ("(select)$$a$$", "(select)'x'"),
            ("select'a'from b", "select 'x' from b"),
            // The name of a setting stays
            ("current_setting('a.B_1')", "current_setting('a.B_1')"),
            ("Current_Setting ( 'a' )", "Current_Setting('a')"),
            ("current_setting('a b')", "current_setting('x')"), ("current_setting('')", "current_setting('x')"),
            ("current_setting('it''s')", "current_setting('x')"), ("current_setting(E'a')", "current_setting('x')"),
            ("current_setting('a'\n'b')", "current_setting('x')"), ("current_setting($$a$$)", "current_setting('x')"),
            ("setting('a')", "setting('x')"), ("g('a')", "g('x')"),
            ("current_setting(('a'))", "current_setting(('x'))"),
            ("current_setting('a', 'b')", "current_setting('a','x')"),
            // Numbers and parameters
            ("1", "1"), ("1.5", "1"), (".5", "1"), ("1.", "1"), ("1e5", "1"), ("1E-5", "1"), ("1e", "1 e"),
            ("1e+", "1 e+"),
            ("1_000", "1"), ("1_", "1 _"), ("0x1F", "1"), ("0XfF", "1"), ("0o17", "1"), ("0b1", "1"), ("0xg", "1 xg"),
            ("1a", "1 a"), ("1..2", "1 .. 1"), ("1.2.3", "1 1"), ("a.1", "a 1"), ("1 .a", "1 .a"), ("$1", "$1"),
            ("$27", "$1"),
            ("$1a", "$1 a"), ("$1.a", "$1.a"), ("$1$2", "$1 $1"), ("a$1", "a$1"), ("1from b", "1 from b"),
            ("(-1,+2)", "(1,1)"), ("a=-1", "a=-1"), ("a = -1", "a= -1"), ("(- 1)", "(1)"), ("[-1:-2]", "[1: -1]"),
            ("f(a,-b)", "f(a,-b)"),
            ("(*-1)", "(*-1)"), ("(@-1)", "(@-1)"),
            // Operators, casts, names
            ("a::int", "a::int"), ("a :: int", "a::int"), ("a : : b", "a: :b"), ("a:=b", "a:=b"), ("a=>b", "a=>b"),
            ("a= >b", "a= >b"),
            ("a<@b", "a<@b"), ("a->>'b'", "a->> 'x'"), ("a ? b", "a?b"), ("\"a\"", "\"a\""),
            ("\"a\"\"b\"", "\"a\"\"b\""),
            ("\"a\" \"b\"", "\"a\" \"b\""), ("\"a\"b", "\"a\" b"), ("select \"-- '\"", "select \"-- '\""),
            ("étoile", "étoile"),
            ("a.\"b\"", "a.\"b\""),
            // Lists
            ("(1,2)", "(1,1)"), ("(1,2,3)", "(1,1)"), ("(1,2,3,4,5)", "(1,1)"),
            ("('a','b',3,4,5,6,'c')", "('x','x',1,1,'x')"),
            ("(1,2,3),(1,2,3),(4,5,6),(7,8,9)", "(1,1),(1,1)"),
            ("values(1,'a'),(2,'b'),(3,'c'),(4,'d')x", "values(1,'x'),(1,'x'),(1,'x'),(1,'x')x"),
            ("values(1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e')x", "values(1,'x'),(1,'x'),(1,'x'),(1,'x')x"),
            ("($1,$2,$3)", "($1,$1)"), ("array['a'::text,'b'::text,'c'::text]", "array['x'::text,'x'::text]"),
            ("a,a,a,a", "a,a"),
            ("((1,2,3),(1,2,3),(1,2,3))", "((1,1),(1,1))"), ("(a,a,b,b,b,a)", "(a,a,b,b,a)"),
            ("f(a),f(a),f(a)", "f(a),f(a)"),
            ("1,2;3,4,5,6", "1,1;1,1"), (",,,", ","), ("(,,,)", "(,)"), ("())),,,,a", "())),,,a"), ("(1,2,3", "(1,1,1"),
            // What never ends
            ("'a", "'"), ("a 'b", "a '"), ("\"a", "'"), ("$$a", "'"), ("$a$ $A$", "'"), ("E'\\'", "'"), ("U&\"a", "'"),
            ("a /* b", "a '"), ("/*/", "'"),
            ("/* /* */", "'"),
            // Bytes without meaning
            ("$", "$"), ("$ a$", "$ a$"), ("\\", "\\"), ("{a}", "{ a }"), ("a\0b", "a \0 b"),
        ])
    func shapes(text: String, expected: String) {
        #expect(Self.shape(text) == expected)
    }

    /// What is `'x'` counts as written already.
    @Test(arguments: [
        "select 'a', -1 from t where b in (1, 2, 3) and c = $5", "u&'a' uescape '!'", "a = -1", "(1,2),(3,4),(5,6)",
    ])
    func aShapeIsItsOwnShape(text: String) {
        #expect(Self.shape(Self.shape(text)) == Self.shape(text))
    }

    @Test(
        arguments: [
            ("'a\\' or b", "'", "'x' or b"), ("'a\\'' or b", "'x' or b", "'"), ("N'a\\''", "'x'", "'"),
            ("E'a\\''", "'x'", "'x'"), ("B'\\'", "'x'", "'x'"),
            ("U&'\\'", "U&'x'", "U&'x'"), ("$$\\$$", "'x'", "'x'"), ("\"\\\"", "\"\\\"", "\"\\\""),
            ("'a\\\\'", "'x'", "'x'"),
        ])
    func backslashesInPlainStrings(text: String, nonconforming: String, conforming: String) {
        #expect(Self.shape(text, standardConformingStrings: false) == nonconforming)
        #expect(Self.shape(text, standardConformingStrings: true) == conforming)
    }

    @Test func listsOfAnyLengthHaveOneShape() {
        var shapes: Set<String> = []
        for count in [3, 4, 10, 1000, 20_000] {
            let numbers = (0..<count).map { String($0 % 3 == 0 ? -$0 : $0) }.joined(separator: ", ")
            let rows = (0..<count).map { "(\($0), 'name \($0)', NULL)" }.joined(separator: ",\n")
            shapes.insert(Self.shape("SELECT * FROM t WHERE id IN (\(numbers)) AND x = ANY (ARRAY[\(numbers)])"))
            shapes.insert(Self.shape("INSERT INTO t VALUES (1, 'a', NULL), \(rows), (2, 'b', NULL) RETURNING id"))
        }
        #expect(shapes.count == 2)
        #expect(shapes.allSatisfy { $0.utf8.count < 120 })
    }

    /// Every text up to a length, over an alphabet of what matters: no trap, and never longer than promised.
    @Test func anyTextHasAShape() {
        let alphabet = Array("aE1'\"$-/*\\\n.,:(U&".utf8)
        var texts: [[UInt8]] = [[]]
        for _ in 0..<4 {
            texts = texts.flatMap { text in alphabet.map { text + [$0] } }
            for text in texts.prefix(8000) {
                for conforming in [true, false] {
                    #expect(Self.shape(text, standardConformingStrings: conforming).utf8.count <= 2 * text.count + 16)
                }
            }
        }
    }

    @Test(
        arguments: [
            ("/* martlet: route=primary */ SELECT 1", .primary), ("SELECT 1 -- martlet: route=replica", .replica),
            ("SELECT /*martlet:route=auto*/ 1", .auto), ("--martlet:  route=replica\nSELECT 1", .replica),
            ("/* MARTLET: ROUTE=Primary */", .primary),
            ("/* martlet: color=red, route=primary, x */ SELECT", .primary),
            ("/* a */ /* martlet: route=replica */ /* martlet: route=primary */", .replica),
            ("/* martlet: route=nowhere */ /* martlet: route=auto */", .auto), ("/* martlet: route=primaryx */", nil),
            ("/* martlet: route=prim */", nil),
            ("/* martlet: route= */", nil), ("/* martlet: route */", nil), ("/* martlet route=primary */", nil),
            ("/* x martlet: route=primary */", nil),
            ("SELECT '/* martlet: route=primary */'", nil), ("SELECT \"/* martlet: route=primary */\"", nil),
            ("$$ -- martlet: route=primary\n$$", nil),
            ("/* martlet: route=primary", nil), ("/* /* martlet: route=primary */ */", nil), ("--", nil), ("/**/", nil),
            ("", nil),
        ] as [(String, RouteOverride?)])
    func overrides(text: String, expected: RouteOverride?) {
        var subject = Subject()
        #expect(subject(text).override == expected)
        // From the cache too.
        #expect(subject(text).override == expected)
    }
}
