import Testing

@testable import Settings

/// Damaged configurations: whatever stands in a file, reading it ends, and ends without a trap.
@Suite struct MutationTests {
    /// A small generator with a seed, so that a failure can be repeated.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            self.state = self.state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return self.state ^ self.state >> 29
        }
    }

    private static let original = Array(
        """
        ; comment
        [databases]
        shop = host=pg1,pg2 port=5432,5433 password='it''s \\' ok' pool_size=10 weights=1,2
        "a ""b"" c" = postgresql://u:p%40w@[::1]:5432,h2/db?pool_mode=session&sslmode=disable
        * = host=/tmp
        [users]
        u = pool_mode=session query_timeout=1.5min
        [peers]
        1 = host=x port=7
        %include other.ini
        [martlet]
        listen_port = 6432
        unix_socket_mode = 0777
        query_timeout = 0.25
        admin_users = a, b
        auth_type = md5
        """.utf8)

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func damagedFiles(seed: UInt64) {
        var generator = Generator(state: seed)
        let interesting = Array("'\"\\=%[]@:/?&,. \n\t;-0\0é".utf8) + [0xFF, 0x80]
        for _ in 0..<100 {
            var bytes = Self.original
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                let byte = interesting.randomElement(using: &generator) ?? 0
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[position] = byte
                case 1: bytes.insert(byte, at: position)
                case 2: bytes.remove(at: position)
                default: bytes.removeLast(min(bytes.count - 1, position / 4))
                }
            }
            let damaged = bytes
            let (settings, diagnostics) = Settings.load(path: "martlet.ini") {
                .success($0 == "martlet.ini" ? damaged : [])
            }
            #expect(settings == nil || !diagnostics.contains { $0.severity == .error })
            #expect(settings.map { Settings.changes(from: $0, to: $0) } ?? [] == [])
        }
    }
}
