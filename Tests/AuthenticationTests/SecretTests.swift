import TestSupport
import Testing

@testable import Authentication

@Suite("Secret, verifier and password checks")
struct SecretTests {
    /// Made by PostgreSQL 15: CREATE ROLE … PASSWORD 'pencil'.
    static let postgreSQLVerifier =
        "SCRAM-SHA-256$4096:9sdhU2R7fYnH2YZbyqfdPw==$FwBMlU72IBclGSi6mjxyGseQrvuNM7UPy4mcbHEIhQA=:Durf1rxJFvvzbcLIeaAZUfuioP1WPNzh9b1w5AQFsLA="

    @Test("PostgreSQL's verifier matches its password and no other")
    func verifierOfPostgreSQL() throws {
        guard case .scram(let verifier) = Secret(parsing: Self.postgreSQLVerifier) else {
            Issue.record("not taken for a SCRAM secret")
            return
        }
        for (password, matches) in [("pencil", true), ("pencil ", false), ("Pencil", false), ("", false)] {
            let keys = try SCRAMDerivation(
                password: SecretBytes(bytes(password)), salt: verifier.salt, iterations: verifier.iterations
            ).run()
            #expect(try verifier.matches(keys) == matches)
            #expect((try SCRAMVerifier(keys) == verifier) == matches)
        }
    }

    @Test("RFC 7677's keys")
    func keys() throws {
        let verifier = try RFC7677.verifier()
        let text =
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
            + ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        #expect(Secret(parsing: text) == .scram(verifier))
    }

    static let digits = "0123456789abcdef0123456789abcdef"
    static let key = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="

    @Test(
        "texts that look like a stored secret but are plain passwords, as PostgreSQL takes them",
        arguments: [
            "", "pencil", "md5", "md5\(digits)0", "md5\(digits.dropLast())", "md5\(digits.uppercased())",
            "MD5\(digits)", "md5\(digits.dropLast())g", "SCRAM-SHA-256", "SCRAM-SHA-256$", "SCRAM-SHA-256$$",
            "SCRAM-SHA-256$4096:AAAA$\(key)", "SCRAM-SHA-256$4096$\(key):\(key)", "SCRAM-SHA-256$:AAAA$\(key):\(key)",
            "SCRAM-SHA-256$0:AAAA$\(key):\(key)", "SCRAM-SHA-256$-1:AAAA$\(key):\(key)",
            "SCRAM-SHA-256$1000001:AAAA$\(key):\(key)", "SCRAM-SHA-256$4096:$\(key):\(key)",
            "SCRAM-SHA-256$4096:AAA$\(key):\(key)", "SCRAM-SHA-256$4096:AAAA$\(key):\(key)=",
            "SCRAM-SHA-256$4096:AAAA$\(key):AAAA", "SCRAM-SHA-256$4096:AAAA$\(key):\(key):\(key)",
            "SCRAM-SHA-256$4096:AAAA$\(key):\(key)$", "scram-sha-256$4096:AAAA$\(key):\(key)",
            "SCRAM-SHA-1$4096:AAAA$\(key):\(key)", "SCRAM-SHA-256$4096:AAAA$\(key):\(key)\n",
        ])
    func plain(text: String) {
        #expect(Secret(parsing: text) == .plain(SecretBytes(bytes(text))))
    }

    @Test("stored secrets")
    func stored() {
        #expect(Secret(parsing: "md5\(Self.digits)") == .md5(SecretBytes(bytes(Self.digits))))
        if case .scram(let verifier) = Secret(parsing: "SCRAM-SHA-256$4096:AAAA$\(Self.key):\(Self.key)") {
            #expect(verifier.iterations == 4096)
            #expect(verifier.salt == [0, 0, 0])
        } else {
            Issue.record("not a SCRAM secret")
        }
    }

    @Test("what a SCRAM login needs")
    func scramLogin() throws {
        #expect(Secret(parsing: "").scramLogin() == .impossible)
        #expect(Secret(parsing: "md5\(Self.digits)").scramLogin() == .impossible)
        let verifier = try RFC7677.verifier()
        #expect(Secret.scram(verifier).scramLogin() == .verifier(verifier))
        guard case .derive(let derivation) = Secret(parsing: "pencil").scramLogin(iterations: 7) else {
            Issue.record("no derivation")
            return
        }
        #expect(derivation.iterations == 7)
        #expect(derivation.salt.count == 16)
        #expect(text(derivation.password) == "pencil")
    }

    @Test("clear-text passwords")
    func clearText() throws {
        let user = bytes("user")
        func check(_ secret: Secret, _ password: String) throws -> Bool {
            switch try secret.check(password: bytes(password).span, user: user.span) {
            case .matches(let result): result
            case .derive(let derivation, let verifier): try verifier.matches(derivation.run())
            }
        }
        let hash = try MD5Password.hash(user: user.span, password: bytes("pencil").span)
        for secret in [Secret(parsing: "pencil"), .md5(hash), .scram(try RFC7677.verifier())] {
            #expect(try check(secret, "pencil"))
            #expect(try !check(secret, "pencils"))
            #expect(try !check(secret, ""))
        }
        #expect(try !check(Secret(parsing: ""), ""))
    }

    @Test("nothing that is printed shows a secret")
    func redacted() throws {
        let keys = try RFC7677.keys()
        let derivation = SCRAMDerivation(password: SecretBytes(bytes("pencil")), salt: [1], iterations: 2)
        let hash = Secret(parsing: "md5\(Self.digits)")
        let values: [Any] = [
            Secret(parsing: "pencil"), hash, Secret.scram(try RFC7677.verifier()), keys, derivation,
            SecretBytes(bytes("pencil")), try RFC7677.verifier(),
            SCRAMServer.Action.success(serverFinal: [], keys: keys), SCRAMClient.Action.derive(derivation),
            Secret.SCRAMLogin.derive(derivation), ["user": Secret(parsing: "pencil")],
        ]
        // "pencil" as text and as numbers, and the beginnings of the digits.
        for value in values {
            var dumped = ""
            dump(value, to: &dumped)
            for output in ["\(value)", String(reflecting: value), dumped] {
                #expect(!output.contains("pencil"))
                #expect(!output.contains("112, 101, 110"))
                #expect(!output.contains("0123"))
                #expect(!output.contains("UInt8"))
            }
        }
    }

    @Test("spoiled verifiers never trap")
    func fuzz() {
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<5_000 { _ = Secret(parsing: generator.mutated(bytes(Self.postgreSQLVerifier)).span) }
    }

    @Test(
        "constant-time comparison",
        arguments: [("", "", true), ("a", "a", true), ("a", "b", false), ("a", "", false), ("ab", "a", false)])
    func comparison(left: String, right: String, equal: Bool) {
        #expect(constantTimeEqual(bytes(left).span, bytes(right).span) == equal)
        #expect((SecretBytes(bytes(left)) == SecretBytes(bytes(right))) == equal)
    }

    @Test("random bytes", arguments: [0, 1, 7, 8, 9, 32, 1000])
    func random(count: Int) {
        #expect(SecureRandom.bytes(count).count == count)
        if count >= 8 { #expect(SecureRandom.bytes(count) != SecureRandom.bytes(count)) }
    }
}
