import TestSupport
import Testing

@testable import Pooling

@Suite struct HashIndexTests {
    @Test func emptyIndexFindsNothing() {
        var index = HashIndex()
        #expect(index.find(1) { _ in true } == nil)
        index.remove(1, 0)
        index.move(1, from: 0, to: 1)
        #expect(index.count == 0)
    }

    @Test func equalHashesAreToldApartByTheCaller() {
        var index = HashIndex()
        for position in 0..<100 { index.insert(7, position) }
        for position in 0..<100 { #expect(index.find(7) { $0 == position } == position) }
        index.remove(7, 50)
        #expect(index.find(7) { $0 == 50 } == nil)
        #expect(index.find(7) { $0 == 99 } == 99)
        index.move(7, from: 99, to: 50)
        #expect(index.find(7) { $0 == 50 } == 50)
        #expect(index.find(7) { $0 == 99 } == nil)
        #expect(index.count == 99)
    }

    /// Against a dictionary, with hashes from so small a range that chains form, wrap around and are cut.
    @Test(arguments: [1, 3, 8, 40, 1000] as [UInt32]) func likeADictionary(range: UInt32) {
        var generator = SeededGenerator(seed: UInt64(range))
        var index = HashIndex()
        var expected: [Int: UInt32] = [:]
        for step in 0..<3000 {
            let position = Int.random(in: 0..<60, using: &generator)
            if let hash = expected[position] {
                #expect(index.find(hash) { $0 == position } == position)
                index.remove(hash, position)
                expected[position] = nil
            } else {
                let hash = UInt32.max - UInt32.random(in: 0..<range, using: &generator)
                index.insert(hash, position)
                expected[position] = hash
            }
            #expect(index.count == expected.count)
            guard step % 50 == 0 else { continue }
            for (position, hash) in expected { #expect(index.find(hash) { $0 == position } == position) }
            for position in 0..<60 where expected[position] == nil {
                #expect(index.find(.max) { $0 == position } == nil)
            }
        }
    }
}
