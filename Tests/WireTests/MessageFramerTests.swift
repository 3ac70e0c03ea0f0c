import Testing
import Wire

/// A message of a type and body, its length field set to `length` when given.
func message(_ type: Character, _ body: [UInt8] = [], length: UInt32? = nil) -> [UInt8] {
    let length = length ?? UInt32(body.count + 4)
    return [type.asciiValue ?? 0] + (0..<4).map { UInt8(truncatingIfNeeded: length >> UInt32(24 - 8 * $0)) } + body
}

@Suite struct MessageFramerTests {
    @Test func wholeMessagesFollowEachOther() {
        var framer = MessageFramer()
        let bytes = message("S") + message("Q", [65, 0])
        #expect(framer.next(bytes, at: 0, gather: []) == .message(type: Frontend.sync, 0..<5))
        #expect(framer.next(bytes, at: 5, gather: []) == .message(type: Frontend.query, 5..<12))
        #expect(framer.next(bytes, at: 12, gather: []) == .end)
        #expect(framer.remaining == 0)
    }

    @Test(arguments: 0..<5) func headerThatIsNotWhole(count: Int) {
        var framer = MessageFramer()
        let bytes = Array(message("Q", [65, 0]).prefix(count))
        let expected: MessageFramer.Step = count == 0 ? .end : .incomplete(needed: 5)
        #expect(framer.next(bytes, at: 0, gather: []) == expected)
    }

    @Test func gatheredMessageWaitsUntilItIsWhole() {
        var framer = MessageFramer()
        let bytes = message("Q", Array(repeating: 65, count: 10))
        let part = Array(bytes.prefix(9))
        #expect(framer.next(part, at: 0, gather: [Frontend.query]) == .incomplete(needed: 15))
        #expect(framer.remaining == 0)
        #expect(framer.next(bytes, at: 0, gather: [Frontend.query]) == .message(type: Frontend.query, 0..<15))
    }

    @Test func gatheredMessageAboveTheLimitStreams() {
        var framer = MessageFramer()
        let part = Array(message("Q", Array(repeating: 65, count: 10)).prefix(9))
        let step = framer.next(part, at: 0, gather: [Frontend.query], gatherLimit: 14)
        #expect(step == .start(type: Frontend.query, length: 15, 0..<9))
        #expect(framer.remaining == 6)
    }

    @Test func streamedMessagePassesInPieces() {
        var framer = MessageFramer()
        let bytes = message("d", Array(repeating: 1, count: 20))
        let (first, second, third) = (Array(bytes[..<7]), Array(bytes[7..<12]), Array(bytes[12...]) + message("c"))
        #expect(framer.next(first, at: 0, gather: []) == .start(type: Frontend.copyData, length: 25, 0..<7))
        #expect(framer.next(first, at: 7, gather: []) == .end)
        #expect(framer.next(second, at: 0, gather: []) == .middle(0..<5, last: false))
        #expect(framer.next(third, at: 0, gather: []) == .middle(0..<13, last: true))
        #expect(framer.next(third, at: 13, gather: []) == .message(type: Frontend.copyDone, 13..<18))
    }

    @Test func streamBeginsWithTheHeaderAlone() {
        var framer = MessageFramer()
        let header = Array(message("d", [], length: 100).prefix(5))
        #expect(framer.next(header, at: 0, gather: []) == .start(type: Frontend.copyData, length: 101, 0..<5))
        #expect(framer.remaining == 96)
    }

    @Test(arguments: [0, 1, 3] as [UInt32]) func lengthBelowFour(length: UInt32) {
        var framer = MessageFramer()
        let bytes = message("Q", [], length: length)
        let expected = MessageFramerError.lengthTooSmall(type: Frontend.query, length: Int(length))
        #expect(framer.next(bytes, at: 0, gather: []) == .invalid(expected))
    }

    @Test(arguments: [101, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF] as [UInt32])
    func lengthAboveTheMaximum(length: UInt32) {
        var framer = MessageFramer(maximumLength: 100)
        let bytes = message("Q", [], length: length)
        let expected = MessageFramerError.lengthTooLarge(type: Frontend.query, length: Int(length))
        #expect(framer.next(bytes, at: 0, gather: [Frontend.query]) == .invalid(expected))
        #expect(framer.next(bytes, at: 0, gather: []) == .invalid(expected))
    }

    @Test func lengthAboveTwoToThe31IsRefusedWhateverTheMaximum() {
        var framer = MessageFramer(maximumLength: .max)
        #expect(framer.maximumLength == Int(Int32.max))
        let bytes = message("d", [], length: 0x8000_0000)
        let expected = MessageFramerError.lengthTooLarge(type: Frontend.copyData, length: 0x8000_0000)
        #expect(framer.next(bytes, at: 0, gather: []) == .invalid(expected))
        framer.maximumLength = -5
        #expect(framer.maximumLength == 4)
    }

    @Test(arguments: [-1, 5, 6, Int.max, Int.min]) func cursorOutsideOfTheChunk(cursor: Int) {
        var framer = MessageFramer()
        let bytes = message("S")
        #expect(framer.next(bytes, at: cursor, gather: []) == .end)
        #expect(framer.skip(bytes, at: cursor, until: []) == cursor)
    }

    @Test func skipPassesARunOfRows() {
        var framer = MessageFramer()
        let rows = message("D", [1]) + message("D", [1, 2]) + message("D")
        let bytes = rows + message("C", [0]) + message("D")
        #expect(framer.skip(bytes, at: 0, until: [Backend.commandComplete]) == rows.count)
        #expect(framer.skip(bytes, at: rows.count + 6, until: [Backend.commandComplete]) == bytes.count)
    }

    @Test func skipFinishesAStreamedMessageFirst() {
        var framer = MessageFramer()
        let bytes = message("D", Array(repeating: 0, count: 10))
        _ = framer.next(Array(bytes[..<8]), at: 0, gather: [])
        let rest = Array(bytes[8...]) + message("D") + message("Z", [73])
        #expect(framer.skip(rest, at: 0, until: [Backend.readyForQuery]) == rest.count - 6)
        #expect(framer.remaining == 0)
    }

    @Test func skipStopsBeforeWhatNextHasToTell() {
        var framer = MessageFramer(maximumLength: 50)
        for end in [message("D", [], length: 3), message("D", [], length: 51), message("D", [], length: 20), [68, 0]] {
            let bytes = message("D") + end
            #expect(framer.skip(bytes, at: 0, until: []) == 5)
        }
    }

    @Test func typeSet() {
        let set: MessageTypeSet = [0, 63, 64, 127, 128, 255]
        let members = (0...255).filter { set.contains(UInt8($0)) }
        #expect(members == [0, 63, 64, 127])
        #expect(Frontend.all.union(Backend.all).contains(Backend.dataRow))
        #expect(!Frontend.all.subtracting([Frontend.bind]).contains(Frontend.bind))
    }

    /// However a stream is cut into chunks, its messages and bytes are the same.
    @Test func everyCutGivesTheSameBytes() {
        let stream = message("Q", [65, 0]) + message("d", Array(0..<40)) + message("S") + message("P", Array(0..<9))
        let gather: MessageTypeSet = [Frontend.query, Frontend.parse]
        for size in 1...stream.count {
            var framer = MessageFramer()
            var seen: [UInt8] = []
            var types: [UInt8] = []
            var chunk: [UInt8] = []
            for start in stride(from: 0, to: stream.count, by: size) {
                chunk += stream[start..<min(start + size, stream.count)]
                var cursor = 0
                walk: while true {
                    switch framer.next(chunk, at: cursor, gather: gather) {
                    case .message(let type, let range), .start(let type, _, let range):
                        types.append(type)
                        seen += chunk[range]
                        cursor = range.upperBound
                    case .middle(let range, _):
                        seen += chunk[range]
                        cursor = range.upperBound
                    case .incomplete, .end, .invalid: break walk
                    }
                }
                chunk.removeFirst(cursor)
            }
            #expect(seen == stream)
            #expect(types == [Frontend.query, Frontend.copyData, Frontend.sync, Frontend.parse])
        }
    }
}
