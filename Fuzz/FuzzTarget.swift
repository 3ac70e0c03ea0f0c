/// One thing that reads what strangers send, or what a file says, and what has to hold whatever that is.
///
/// A target is run by libFuzzer for as long as one likes (`Integration/fuzz`), and on a few thousand damaged inputs with
/// each run of the unit tests (`QuickRun`).
struct FuzzTarget: Sendable {
    /// Names its folder in `Corpora`, and its dictionary if it has one.
    let name: String
    /// Fails when something does not hold; traps are failures by themselves.
    let check: @Sendable ([UInt8]) throws -> Void

    static let all: [FuzzTarget] = [
        .startup, .frontend, .backend, .scramServer, .scramClient, .ini, .hba, .ident, .passwords, .sql, .router,
        .console,
    ]
}

/// What did not hold.
struct Broken: Error, CustomStringConvertible {
    let description: String
}

/// Fails the target unless the condition holds.
func expect(_ condition: Bool, _ text: @autoclosure () -> String) throws(Broken) {
    if !condition { throw Broken(description: text()) }
}

/// The bytes of a fuzzed input, from front to back: numbers that decide what a target does with the rest.
struct InputReader {
    private(set) var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { self.rest = bytes[...] }

    /// The next byte; 0 behind the end.
    mutating func byte() -> UInt8 { self.rest.popFirst() ?? 0 }

    /// A number in 0..<limit.
    mutating func number(below limit: Int) -> Int { (Int(self.byte()) << 8 | Int(self.byte())) % max(limit, 1) }

    /// What stands in front of the next line's end.
    mutating func line() -> [UInt8] {
        let line = self.rest.prefix { $0 != UInt8(ascii: "\n") }
        self.rest = self.rest.dropFirst(line.count + 1)
        return Array(line)
    }
}

/// The text of bytes, for messages.
func shown(_ bytes: some Sequence<UInt8>) -> String { String(decoding: Array(bytes), as: UTF8.self).debugDescription }
