/// A generator that gives the same numbers for the same seed (SplitMix64), so that a failure can be repeated.
public struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    public init(seed: UInt64) { self.state = seed }

    public mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var word = self.state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }

    /// One of many ways to spoil a message: cut, change, insert, double; up to four times.
    ///
    /// - Parameter delimiters: bytes that are put in more often than others.
    public mutating func mutated(_ message: [UInt8], delimiters: [UInt8] = []) -> [UInt8] {
        var result = message
        for _ in 0..<Int.random(in: 1...4, using: &self) {
            let place = Int.random(in: 0...result.count, using: &self)
            switch Int.random(in: 0..<(delimiters.isEmpty ? 5 : 6), using: &self) {
            case 0: result.removeSubrange(place...)
            case 1: result.insert(UInt8.random(in: 0...255, using: &self), at: place)
            case 2: if place < result.count { result[place] = UInt8.random(in: 0...255, using: &self) }
            case 3: if place < result.count { result.remove(at: place) }
            case 4: result.insert(contentsOf: result, at: place)
            default: result.insert(delimiters.randomElement(using: &self) ?? 0, at: place)
            }
        }
        return result
    }
}
