#if !MARTLET_FUZZ
import TestSupport
import Foundation
import Testing

/// Each target on its corpus and on some thousand inputs made from it, the same in each run.
@Suite struct QuickRun {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()

    private static func corpus(_ name: String) throws -> [[UInt8]] {
        let folder = Self.folder.appending(path: "Corpora/\(name)")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        return try names.map { Array(try Data(contentsOf: folder.appending(path: $0))) }
    }

    @Test(arguments: FuzzTarget.all.map(\.name))
    func target(name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let corpus = try Self.corpus(name)
        #expect(!corpus.isEmpty)
        for input in corpus { self.run(target, input) }
        var mutator = Mutator(corpus: corpus, seed: 1)
        for _ in 0..<2000 { self.run(target, mutator.input()) }
    }

    private func run(_ target: FuzzTarget, _ input: [UInt8]) {
        do {
            try target.check(input)
        } catch {
            Issue.record("\(error)\ninput: \(Data(input).base64EncodedString()) \(shown(input))")
        }
    }
}

/// Makes inputs from those of a corpus: changed, cut, doubled, put together. The same seed gives the same ones.
private struct Mutator {
    let corpus: [[UInt8]]
    private var generator: SeededGenerator
    private static let interesting: [UInt8] = [0, 1, 4, 5, 127, 128, 255] + Array("'\"\\=%[]@:/?&,. \n\t;-#$()*+".utf8)

    init(corpus: [[UInt8]], seed: UInt64) {
        self.corpus = corpus
        self.generator = SeededGenerator(seed: seed)
    }

    mutating func input() -> [UInt8] {
        var input = self.corpus.randomElement(using: &self.generator) ?? []
        for _ in 0..<Int.random(in: 1...5, using: &self.generator) {
            let place = Int.random(in: 0...input.count, using: &self.generator)
            let length = min(Int.random(in: 1...8, using: &self.generator), input.count - place)
            switch Int.random(in: 0..<8, using: &self.generator) {
            case 0: input.removeSubrange(place..<(place + length))
            case 1: input.insert(contentsOf: input[place..<(place + length)], at: place)
            case 2: input.insert(UInt8.random(in: 0...255, using: &self.generator), at: place)
            case 3: if place < input.count { input[place] ^= 1 << UInt8.random(in: 0...7, using: &self.generator) }
            case 4: if place < input.count { input[place] = UInt8.random(in: 0...255, using: &self.generator) }
            case 5: input.removeSubrange(place...)
            case 6: input += (self.corpus.randomElement(using: &self.generator) ?? []).suffix(max(1, place))
            default: input.insert(Self.interesting.randomElement(using: &self.generator) ?? 0, at: place)
            }
        }
        return Array(input.prefix(4096))
    }
}
#endif
