import Testing
import Wire

@Suite struct SpanTests {
    /// Around the borders of the eight bytes that are looked at together, with bytes that borrow from their neighbours.
    @Test(arguments: [1, 0x7F, 0x80, 0x81, 0xFF] as [UInt8]) func firstNUL(filler: UInt8) {
        for count in 0..<40 {
            var bytes = [UInt8](repeating: filler, count: count)
            for start in 0...(count + 1) {
                let none = bytes.span.firstNUL(from: start)
                #expect(none == nil)
            }
            for position in 0..<count {
                bytes[position] = 0
                for start in [-1, 0, position] {
                    let found = bytes.span.firstNUL(from: start)
                    #expect(found == position)
                }
                let behind = bytes.span.firstNUL(from: position + 1)
                #expect(behind == nil)
                if position + 1 < count {
                    bytes[position + 1] = 0
                    let first = bytes.span.firstNUL(from: 0)
                    #expect(first == position)
                    bytes[position + 1] = filler
                }
                bytes[position] = filler
            }
        }
    }

    @Test func equals() {
        for count in 0..<40 {
            let bytes = [UInt8](repeating: 7, count: count)
            let longer = bytes + [7]
            let same = bytes.span.equals(bytes.span)
            #expect(same)
            let other = [bytes.span.equals(longer.span), longer.span.equals(bytes.span)]
            #expect(other == [false, false])
            for position in 0..<count {
                var changed = bytes
                changed[position] = 8
                let result = bytes.span.equals(changed.span)
                #expect(!result)
            }
        }
    }

    @Test func rangesOutsideOfTheBytes() {
        let bytes: [UInt8] = [65, 66, 0xFF]
        let copies = [bytes.span.copy(-5..<2), bytes.span.copy(1..<9), bytes.span.copy(7..<9)]
        #expect(copies == [[65, 66], [66, 0xFF], []])
        let texts = [bytes.span.text(0..<9), bytes.span.text(-2..<(-1))]
        #expect(texts == ["AB\u{FFFD}", ""])
        let valid = [bytes.span.validText(0..<2), bytes.span.validText(0..<3)]
        #expect(valid == ["AB", nil])
        let equal = [bytes.span.equals(0..<2, "AB"), bytes.span.equals(-1..<1, "AB"), bytes.span.equals(2..<4, "AB")]
        #expect(equal == [true, false, false])
    }
}
