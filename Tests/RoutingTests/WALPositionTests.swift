import Routing
import Testing

@Suite struct WALPositionTests {
    @Test(
        arguments: [
            ("0/0", 0), ("0/16B3748", 0x16B_3748), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", UInt64.max),
            ("0/a", 10),
        ] as [(String, UInt64)])
    func positionsAreRead(text: String, position: UInt64) {
        #expect(WALPosition.parse(text) == position)
    }

    @Test(arguments: ["", "/", "0", "0/", "/0", "0/0/0", "0/G", "+1/0", "-1/0", "0/123456789", " 0/0", "0/é"])
    func whatIsNoPositionIsNil(text: String) {
        #expect(WALPosition.parse(text) == nil)
    }

    @Test func timelineIsTheBeginningOfASegmentsName() {
        #expect(WALPosition.timeline(ofSegment: "000000020000000000000003") == 2)
        #expect(WALPosition.timeline(ofSegment: "0000001F00000000000000FF") == 31)
        #expect(WALPosition.timeline(ofSegment: "00000002.history") == nil)
        #expect(WALPosition.timeline(ofSegment: "") == nil)
    }

    private static let segment: UInt64 = 16 << 20

    @Test(
        arguments: [
            // A page's header alone.
            (8192 + 24, 8192), (3 * Self.segment + 8192 * 7 + 24, 3 * Self.segment + 8192 * 7),
            // A segment's first page has a longer one.
            (Self.segment + 40, Self.segment), (Self.segment + 24, Self.segment + 24), (40, 0),
            // There is a record on the page.
            (8192 + 40, 8192 + 40), (8192 + 32, 8192 + 32), (Self.segment + 48, Self.segment + 48), (8192, 8192),
            (0, 0),
        ] as [(UInt64, UInt64)])
    func headerOfAnEmptyPageIsTakenOff(told: UInt64, meant: UInt64) {
        #expect(WALPosition.withoutPageHeader(told, blockSize: 8192, segmentSize: Self.segment) == meant)
    }

    @Test func sizesThatMakeNoSenseChangeNothing() {
        #expect(WALPosition.withoutPageHeader(8216, blockSize: 0, segmentSize: Self.segment) == 8216)
        #expect(WALPosition.withoutPageHeader(8216, blockSize: 8192, segmentSize: 0) == 8216)
    }
}
