import Wire

/// A stream of messages, framed as a connection does it: in chunks, keeping what is not whole.
struct FramedStream {
    /// Whole messages of the stream, header included, as ranges of it.
    private(set) var messages: [Range<Int>] = []
    /// Whether the bytes behind the last whole message begin with a length that is refused.
    private(set) var isInvalid = false

    private let bytes: [UInt8]
    private let maximum: Int

    /// Frames the plain way, one length after the other.
    init(_ bytes: [UInt8], maximum: Int) {
        self.bytes = bytes
        self.maximum = maximum
        var position = 0
        while bytes.count - position >= 5 {
            let length = bytes[(position + 1)..<(position + 5)].reduce(0) { $0 << 8 | Int($1) }
            guard (4...maximum).contains(length) else {
                self.isInvalid = true
                break
            }
            guard position + 1 + length <= bytes.count else { break }
            self.messages.append(position..<(position + 1 + length))
            position += 1 + length
        }
    }

    /// Lets a `MessageFramer` have the same bytes in chunks, whose sizes `input` gives, and compares.
    func check(gather: MessageTypeSet, limit: Int, skip: MessageTypeSet?, _ input: inout InputReader) throws {
        var framer = MessageFramer(maximumLength: self.maximum)
        var held: [UInt8] = []
        var taken = 0
        var given = 0
        var borders: Set<Int> = []
        while given < self.bytes.count {
            let next = min(self.bytes.count, given + 1 + input.number(below: 300))
            held += self.bytes[given..<next]
            given = next
            var cursor = 0
            chunk: while true {
                if let skip {
                    let before = cursor
                    cursor = framer.skip(held.span, at: cursor, until: skip)
                    try expect(cursor >= before && cursor <= held.count, "skips from \(before) to \(cursor)")
                }
                switch framer.next(held.span, at: cursor, gather: gather, gatherLimit: limit) {
                case .message(let type, let range):
                    try self.checkBorder(taken + cursor, type, range.count, &borders)
                    try expect(range.lowerBound == cursor && range.upperBound <= held.count, "a message at \(range)")
                    cursor = range.upperBound
                case .start(let type, let length, let range):
                    try self.checkBorder(taken + cursor, type, length, &borders)
                    try expect(!gather.contains(type) || length > limit, "streams what is to be gathered")
                    try expect(range == cursor..<held.count && length > range.count, "starts at \(range)")
                    cursor = range.upperBound
                case .middle(let range, let last):
                    try expect(range.lowerBound == cursor && range.upperBound <= held.count, "a middle at \(range)")
                    try expect(last == (framer.remaining == 0) && !range.isEmpty, "a middle that is none")
                    cursor = range.upperBound
                case .incomplete(let needed):
                    try expect(needed > held.count - cursor, "waits for what is there")
                    try expect(needed <= max(5, limit) && needed <= self.maximum + 1, "waits for \(needed) bytes")
                    break chunk
                case .end:
                    try expect(cursor == held.count, "ends in front of the end")
                    break chunk
                case .invalid:
                    let whole = self.messages.last?.upperBound ?? 0
                    try expect(self.isInvalid && taken + cursor == whole, "refuses a length at \(taken + cursor)")
                    return
                }
            }
            held.removeFirst(cursor)
            taken += cursor
        }
        try expect(!self.isInvalid, "has not seen a length that is to be refused")
        if skip == nil {
            try expect(self.messages.allSatisfy { borders.contains($0.lowerBound) }, "has passed over a message")
        }
        try expect((self.messages.last?.upperBound ?? 0) <= taken, "holds whole messages back")
    }

    private func checkBorder(_ position: Int, _ type: UInt8, _ length: Int, _ borders: inout Set<Int>) throws {
        try expect(self.bytes[position] == type, "type \(type) at \(position)")
        let whole = self.messages.first { $0.lowerBound == position }
        let isLast = position == self.messages.last?.upperBound ?? 0
        try expect(whole?.count == length || whole == nil && isLast, "a message of \(length) bytes at \(position)")
        borders.insert(position)
    }
}
