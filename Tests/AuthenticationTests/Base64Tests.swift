import Testing

@testable import Authentication

@Suite("Base64")
struct Base64Tests {
    /// RFC 4648, chapter 10.
    static let rfc4648 = [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ]

    @Test("RFC 4648's vectors", arguments: rfc4648)
    func vectors(plain: String, encoded: String) {
        #expect(text(Base64.encode(bytes(plain).span)) == encoded)
        #expect(Base64.decode(bytes(encoded).span) == bytes(plain))
    }

    @Test(
        "malformed",
        arguments: [
            "A", "AA", "AAA", "=", "====", "A===", "AA=A", "Zh==", "Zm9=", "Zm9v=", "Zm 9", "Zm9v\n", "_-_-",
            "AA==AA==",
        ])
    func malformed(encoded: String) {
        #expect(Base64.decode(bytes(encoded).span) == nil)
    }

    @Test("all byte values there and back")
    func roundTrip() {
        let all = (0...255).map { UInt8($0) }
        for count in 0...256 {
            let part = Array(all.suffix(count))
            #expect(Base64.decode(Base64.encode(part.span).span) == part)
        }
    }
}
