import TestSupport
import Testing

@testable import Authentication

@Suite("SASLprep")
struct SASLprepTests {
    func prepare(_ password: [UInt8]) -> [UInt8] {
        [UInt8](copying: SASLprep.prepare(SecretBytes(password)).span)
    }

    @Test(
        "prepared passwords",
        arguments: [
            // RFC 4013, chapter 3.
            ("I\u{AD}X", "IX"), ("user", "user"), ("USER", "USER"), ("\u{AA}", "a"), ("\u{2168}", "IX"),
            // Spaces, and what is dropped.
            ("a\u{A0}b", "a b"), ("a\u{3000}b", "a b"), ("a\u{200B}b", "a b"), ("a\u{FEFF}b", "ab"), ("\u{200D}x", "x"),
            // Compositions.
            ("e\u{301}", "\u{E9}"), ("\u{E9}", "\u{E9}"), ("\u{1E9B}\u{323}", "\u{1E69}"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("\u{212B}", "\u{C5}"), ("\u{FB01}", "fi"), ("\u{FF21}\u{FF5E}", "A~"), ("\u{3392}", "MHz"),
            ("\u{1100}\u{1161}\u{11A8}", "\u{AC01}"), ("\u{AC00}\u{11A8}", "\u{AC01}"), ("\u{FFA1}", "\u{1100}"),
            // Excluded from composition.
            ("\u{958}", "\u{915}\u{93C}"), ("\u{2ADC}", "\u{2ADD}\u{338}"),
            // All right-to-left.
            ("\u{5D0}\u{5D1}", "\u{5D0}\u{5D1}"), ("\u{627}1\u{628}", "\u{627}1\u{628}"),
            ("pässwörd-密码-пароль", "pässwörd-密码-пароль"),
        ])
    func prepared(password: String, expected: String) {
        #expect(self.prepare(bytes(password)) == bytes(expected))
    }

    @Test(
        "taken as they are",
        arguments: [
            // ASCII, control characters too.
            "", "pencil", "a\u{7}b", "a\u{7F}",
            // Prohibited: control, private use, no character, tag; with something that would be normalised.
            "\u{AA}\u{7}", "\u{AA}\u{80}", "\u{AA}\u{E000}", "\u{AA}\u{FFF9}", "\u{AA}\u{E0001}", "\u{AA}\u{FFFD}",
            // Unassigned in Unicode 3.2.
            "\u{AA}\u{1F600}", "\u{AA}\u{221}",
            // Mixed directions, and right-to-left that does not end so.
            "\u{5D0}a\u{5D1}", "\u{AA}\u{5D0}", "\u{FEFB}1",
            // Nothing left.
            "\u{AD}", "\u{AD}\u{200D}",
        ])
    func unchanged(password: String) {
        #expect(self.prepare(bytes(password)) == bytes(password))
    }

    @Test(
        "bytes that are no UTF-8 are taken as they are",
        arguments: [[0xC2, 0xAA, 0xFF], [0x80], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xC2]] as [[UInt8]])
    func invalid(password: [UInt8]) {
        #expect(self.prepare(password) == password)
    }

    @Test("thousands of combining marks in the wrong order take no noticeable time")
    func manyMarks() {
        let password = "a" + String(repeating: "\u{301}\u{323}", count: 10_000)
        let expected =
            "\u{1EA1}" + String(repeating: "\u{323}", count: 9_999) + String(repeating: "\u{301}", count: 10_000)
        #expect(self.prepare(bytes(password)) == bytes(expected))
    }

    @Test("any characters: never a trap, always valid text")
    func fuzz() {
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<2_000 {
            var password = ""
            for _ in 0..<Int.random(in: 0..<8, using: &generator) {
                let limit: UInt32 = [0x300, 0x3400, 0x11_0000].randomElement(using: &generator) ?? 0x300
                if let scalar = Unicode.Scalar(UInt32.random(in: 0..<limit, using: &generator)) {
                    password.unicodeScalars.append(scalar)
                }
            }
            let prepared = self.prepare(bytes(password))
            #expect(String(validating: prepared, as: UTF8.self) != nil)
        }
    }
}
