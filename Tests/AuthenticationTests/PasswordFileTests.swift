import TestSupport
import Testing

@testable import Authentication

@Suite("Password file")
struct PasswordFileTests {
    @Test(
        "lines with an entry",
        arguments: [
            (#""user" "secret""#, "user", "secret"),
            (#"  "user"   "secret"  "#, "user", "secret"),
            ("\t\"user\"\t\"secret\"\r", "user", "secret"),
            (#""user""secret""#, "user\"secret", nil),
            (#""us""er" "sec""ret""#, "us\"er", "sec\"ret"),
            (#""""" """""#, "\"", "\""),
            (#""user" "secret" and more, "ignored""#, "user", "secret"),
            (#""user" "secret" ; comment"#, "user", "secret"),
            (#""a b;c" " se;cret ""#, "a b;c", " se;cret "),
            (#""ünï" "pässwörd""#, "ünï", "pässwörd"),
            (#""back\slash" "a\""#, "back\\slash", "a\\"),
        ] as [(String, String, String?)])
    func entries(line: String, user: String, password: String?) {
        let (secrets, errors, doubts) = PasswordFile.parse(line, file: "userlist.txt")
        guard let password else {
            #expect(secrets.isEmpty && errors.count == 1 && doubts.isEmpty)
            return
        }
        #expect(secrets == [user: .plain(SecretBytes(bytes(password)))])
        #expect(errors.isEmpty && doubts.isEmpty)
    }

    @Test(
        "lines without an entry", arguments: ["", " ", "\t", ";", "; \"user\" \"secret\"", "  ;x", "# comment", "\r"])
    func nothing(line: String) {
        let (secrets, errors, doubts) = PasswordFile.parse(line, file: "userlist.txt")
        #expect(secrets.isEmpty && errors.isEmpty && doubts.isEmpty)
    }

    @Test(
        "bad lines are reported, and those around them are read",
        arguments: [
            ("user secret", "user in double quotes expected"),
            (#""user" "SCRAM-SHA-256$4096:hid"#, "password has no closing double quote"),
            (#""user""#, "password in double quotes expected"),
            (#""user" secret"#, "password in double quotes expected"),
            (#""user" ;"#, "password in double quotes expected"),
            (#""user"#, "user has no closing double quote"),
            (#""user" "secret"#, "password has no closing double quote"),
            (#""user" "secret"""#, "password has no closing double quote"),
            (#""user" ""#, "password has no closing double quote"),
            (#""" "secret""#, "user name is empty"),
            ("\"us\0er\" \"secret\"", "zero byte in user"),
            ("\"user\" \"sec\0ret\"", "zero byte in password"),
        ])
    func badLines(line: String, problem: String) {
        let file = "\"before\" \"1\"\n\(line)\n\"after\" \"2\"\n"
        let (secrets, errors, doubts) = PasswordFile.parse(file, file: "userlist.txt")
        #expect(secrets.keys.sorted() == ["after", "before"])
        #expect(errors == ["userlist.txt:2: \(problem)"] && doubts.isEmpty)
    }

    @Test("kinds of secrets")
    func kinds() {
        let file = """
            "plain" "pencil"
            "md5" "md50123456789abcdef0123456789abcdef"
            "scram" "\(SecretTests.postgreSQLVerifier)"
            """
        let (secrets, errors, doubts) = PasswordFile.parse(file, file: "f")
        #expect(errors.isEmpty && doubts.isEmpty)
        #expect(secrets["plain"]?.description == "plain password")
        #expect(secrets["md5"]?.description == "MD5 secret")
        #expect(secrets["scram"]?.description == "SCRAM secret")
    }

    @Test("doubtful entries are taken and reported, without the secret")
    func doubtful() {
        let file = "\"a\" \"one\"\n\"b\" \"\"\n\"a\" \"two\"\n"
        let (secrets, errors, doubts) = PasswordFile.parse(file, file: "f")
        #expect(secrets["a"] == Secret(parsing: "two"))
        #expect(secrets.count == 2 && errors.isEmpty)
        #expect(
            doubts == [
                "f:2: user \"b\" has an empty password and cannot log in with it",
                "f:3: user \"a\" is on line 1 too; the last counts",
            ])
    }

    @Test("a verifier that was cut is an error, which does not show it")
    func cutVerifier() {
        let (secrets, errors, _) = PasswordFile.parse("\"c\" \"SCRAM-SHA-256$4096:hidden\"\n", file: "f")
        #expect(secrets.isEmpty)
        #expect(errors == ["f:1: secret of user \"c\" begins with SCRAM-SHA-256$ but is malformed"])
    }

    @Test("values up to 65,535 bytes")
    func longValues() {
        for (length, taken) in [(65_535, true), (65_536, false), (1_000_000, false)] {
            let value = String(repeating: "x", count: length)
            let (secrets, errors, _) = PasswordFile.parse("\"u\" \"\(value)\"\n\"v\" \"w\"", file: "f")
            #expect(secrets.count == (taken ? 2 : 1))
            #expect(errors == (taken ? [] : ["f:1: password is longer than 65535 bytes"]))
        }
    }

    @Test("bytes that are no UTF-8: kept in a password, refused in a name")
    func invalidText() {
        let (secrets, _, _) = PasswordFile.parse((bytes("\"u\" \"") + [0xFF, 0xFE] + bytes("\"")).span, file: "f")
        #expect(secrets["u"] == .plain(SecretBytes([0xFF, 0xFE])))
        let (none, errors, _) = PasswordFile.parse((bytes("\"") + [0xFF] + bytes("\" \"x\"")).span, file: "f")
        #expect(none.isEmpty)
        #expect(errors == ["f:1: user name is not valid UTF-8"])
    }

    @Test("a byte order mark and Windows line ends")
    func windows() {
        let (secrets, errors, doubts) = PasswordFile.parse("\u{FEFF}\"a\" \"1\"\r\n\r\n\"b\" \"2\"\r\n", file: "f")
        #expect(secrets.keys.sorted() == ["a", "b"])
        #expect(errors.isEmpty && doubts.isEmpty)
    }

    @Test("spoiled files never trap")
    func fuzz() {
        var generator = SeededGenerator(seed: 7)
        let file = bytes("; users\n\"us\"\"er\" \"secret\"\n\"b\" \"\(SecretTests.postgreSQLVerifier)\"\n")
        for _ in 0..<3_000 { _ = PasswordFile.parse(generator.mutated(file).span, file: "f") }
    }
}
