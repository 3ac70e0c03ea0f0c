import Testing

@testable import Settings

@Suite struct ValueTests {
    @Test(
        arguments: [
            ("0", 0), ("15", 15_000_000), ("0.25", 250_000), (".5", 500_000), ("5.", 5_000_000),
            ("0.000001", 1), ("0.0000019", 1), ("250ms", 250_000), ("250 ms", 250_000), ("7us", 7), ("1.5us", 1),
            ("2s", 2_000_000), ("5min", 300_000_000), ("5m", 300_000_000), ("0.5min", 30_000_000),
            ("1.5h", 5_400_000_000), ("1d", 86_400_000_000), ("1000000000", 1_000_000_000_000_000),
            ("0.1000000000000000000000000000000000000000000000001", 100_000),
        ] as [(String, Microseconds)])
    func timesAreSecondsUnlessAUnitFollows(text: String, expected: Microseconds) throws {
        #expect(try DurationText.parse(text) == expected)
    }

    @Test(arguments: [
        "", " ", ".", "-1", "+1", "1e3", "1.2.3", "5 weeks", "ms", "five", "0x10", "1000000001", "99999999999999999999",
        "1000000000d", "٣", "1\u{301}", "1,5", "nan", "inf",
    ])
    func badTimes(text: String) {
        #expect(throws: InvalidValue.self) { try DurationText.parse(text) }
    }

    @Test(
        arguments: [
            (0, "0"), (1, "0.000001"), (250_000, "0.25"), (1_000_000, "1"), (3_600_000_000, "3600"),
            (12_345_678_000, "12345.678"),
        ] as [(Microseconds, String)])
    func timesArePrintedInSeconds(duration: Microseconds, expected: String) throws {
        #expect(DurationText.print(duration) == expected)
        #expect(try DurationText.parse(expected) == duration)
    }

    @Test(arguments: [("0", 0), ("6432", 6432), ("0x10", 16), ("65535", 65535)])
    func integers(text: String, expected: Int) throws {
        #expect(try ValueText.integer(text, 0...65535) == expected)
    }

    @Test(arguments: [
        ("", "needs a value"),
        ("x", #"must be a whole number, not "x""#),
        ("1.5", #"must be a whole number, not "1.5""#),
        ("1 2", #"must be a whole number, not "1 2""#),
        ("0x", #"must be a whole number, not "0x""#),
        ("-", #"must be a whole number, not "-""#),
        ("０", #"must be a whole number, not "０""#),
        ("65536", "must be from 0 to 65535, not 65536"),
        ("-1", "must be from 0 to 65535, not -1"),
        ("99999999999999999999", "must be from 0 to 65535, not 99999999999999999999"),
        ("0100", #"must be written without leading zeros, not "0100""#),
    ])
    func badIntegers(text: String, reason: String) {
        #expect(throws: InvalidValue(reason)) { try ValueText.integer(text, 0...65535) }
    }

    @Test(arguments: [("0777", 0o777), ("0600", 0o600), ("0", 0)])
    func fileModes(text: String, expected: Int) throws {
        #expect(try ValueText.fileMode(text) == expected)
    }

    @Test(arguments: ["", "777", "0888", "01777", "0x1ff", "rwx", "07777777777777777777777777"])
    func badFileModes(text: String) {
        #expect(throws: InvalidValue.self) { try ValueText.fileMode(text) }
    }

    @Test(arguments: [
        ("1", true), ("0", false), ("on", true), ("OFF", false), ("yes", true), ("No", false), ("true", true),
        ("false", false), ("2", true), ("45", true), ("00", false),
    ])
    func flags(text: String, expected: Bool) throws {
        #expect(try ValueText.flag(text) == expected)
    }

    @Test(arguments: ["", "maybe", "-1", "1.0", "11111111111"])
    func badFlags(text: String) {
        #expect(throws: InvalidValue.self) { try ValueText.flag(text) }
    }

    @Test func listsDropBlanksAndEmptyItems() {
        #expect(ValueText.list(" a ,b,,\tc d, ") == ["a", "b", "c d"])
        #expect(ValueText.list("") == [])
    }

    @Test func wordsAreFoundInAnyCaseAndGuessedWhenMistyped() throws {
        #expect(try ValueText.choice("Transaction") == PoolMode.transaction)
        #expect(
            throws: InvalidValue(
                #"must be one of session, transaction, statement, not "sesion"; did you mean "session"?"#)
        ) {
            let _: PoolMode = try ValueText.choice("sesion")
        }
    }

    @Test(
        arguments: [
            ("pool_mod", "pool_mode"), ("Pool_Mode", "pool_mode"), ("poolmode", "pool_mode"),
            ("max_client_con", "max_client_conn"), ("listen_adrr", "listen_addr"), ("zzz", nil), ("", nil),
            ("a_key_that_is_far_longer_than_any_there_is_and_therefore_not_a_typing_error", nil),
        ] as [(String, String?)])
    func nearestName(name: String, expected: String?) {
        #expect(NearestName.find(name, in: GeneralSettings.keys.map(\.name)) == expected)
    }

    @Test(arguments: [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3)])
    func distance(left: String, right: String, expected: Int) {
        #expect(NearestName.distance(Array(left.utf8), Array(right.utf8)) == expected)
    }

    @Test func textsInMessagesAreEscapedAndCut() {
        #expect(quoted("a\"b\u{1B}[0m\n") == #""a\"b\u{1B}[0m\n""#)
        #expect(quoted(String(repeating: "x", count: 200)).count == 83)
    }

    @Test(
        arguments: [
            ("0", 0), ("65536", 65_536), ("1B", 1), ("64kB", 65_536), ("512MB", 512 << 20), ("2 GB", 2 << 30),
            ("1TB", 1 << 40),
            ("", nil), ("1KB", nil), ("MB", nil), ("-1", nil), ("1.5GB", nil), ("9999999999999999999", nil),
            ("9999999999TB", nil), ("1 MB x", nil),
        ] as [(String, Int?)])
    func sizes(text: String, bytes: Int?) { #expect((try? ValueText.size(text)) == bytes) }
}
