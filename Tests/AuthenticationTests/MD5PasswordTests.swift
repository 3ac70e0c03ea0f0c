import Testing

@testable import Authentication

@Suite("MD5 password")
struct MD5PasswordTests {
    let user = bytes("md5user")
    let salt: [UInt8] = [0x01, 0x02, 0xFE, 0x00]

    @Test("PostgreSQL's stored form, and RFC 1321's vectors with the split anywhere")
    func hash() throws {
        #expect(
            text(try MD5Password.hash(user: self.user.span, password: bytes("pencil").span))
                == "0098e7fab7b4d8d091067152a80b3f12")
        for (user, password, expected) in [
            ("", "", "d41d8cd98f00b204e9800998ecf8427e"),
            ("", "abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("c", "ab", "900150983cd24fb0d6963f7d28e17f72"),
            (" digest", "message", "f96b697d7cb7938d525a2f31aaf161d0"),
        ] {
            #expect(text(try MD5Password.hash(user: bytes(user).span, password: bytes(password).span)) == expected)
        }
    }

    @Test("the answer, from the password and from the stored form")
    func response() throws {
        let hash = try MD5Password.hash(user: self.user.span, password: bytes("pencil").span)
        for secret in [Secret(parsing: "pencil"), .md5(hash)] {
            let response = try MD5Password.response(salt: self.salt.span, user: self.user.span, secret: secret)
            #expect(text(response) == "md5333bd23123e4a77907712c21df1f377d")
        }
    }

    @Test("a SCRAM secret cannot answer, a salt has four bytes")
    func refused() throws {
        let scram = Secret.scram(try RFC7677.verifier())
        #expect(throws: AuthenticationError.self) {
            try MD5Password.response(salt: self.salt.span, user: self.user.span, secret: scram)
        }
        for length in [0, 3, 5] {
            #expect(throws: AuthenticationError.self) {
                try MD5Password.response(
                    salt: [UInt8](repeating: 1, count: length).span, user: self.user.span, secret: Secret(parsing: "x"))
            }
        }
    }

    @Test("verification")
    func verify() throws {
        let plain = Secret(parsing: "pencil")
        let right = text(try MD5Password.response(salt: self.salt.span, user: self.user.span, secret: plain))
        func verify(_ response: String, _ secret: Secret?, user: String = "md5user") throws -> Bool {
            try MD5Password.verify(
                response: bytes(response).span, user: bytes(user).span, secret: secret, salt: self.salt.span)
        }
        let hash = try MD5Password.hash(user: self.user.span, password: bytes("pencil").span)
        #expect(try verify(right, plain))
        #expect(try verify(right, .md5(hash)))
        #expect(try !verify(right, plain, user: "other"))
        #expect(try !verify(right, Secret(parsing: "pencil2")))
        #expect(try !verify(right, nil))
        #expect(try !verify(right, .scram(try RFC7677.verifier())))
        for response in ["", "md5", "pencil", right + "0", String(right.dropLast()), right.uppercased(), text(hash)] {
            #expect(try !verify(response, plain))
        }
    }

    @Test("an empty password, and an unknown user, never match, not even their own answer")
    func impossible() throws {
        for stand in [SecretBytes([]), SecretBytes([UInt8](repeating: 0, count: 16))] {
            let response = try MD5Password.response(
                salt: self.salt.span, user: self.user.span, secret: .plain(stand))
            for secret in [Secret(parsing: ""), nil] {
                #expect(
                    try !MD5Password.verify(
                        response: response.span, user: self.user.span, secret: secret, salt: self.salt.span))
            }
        }
    }
}
