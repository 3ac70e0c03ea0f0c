/// Positions in the write-ahead log: bytes since its beginning, as PostgreSQL's type `pg_lsn`.
public enum WALPosition {
    /// Reads `16/B374D848`. Nil if it is not of that form.
    public static func parse(_ text: some StringProtocol) -> UInt64? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let high = Self.hexadecimal(parts[0]), let low = Self.hexadecimal(parts[1]) else {
            return nil
        }
        return UInt64(high) << 32 | UInt64(low)
    }

    /// Writes `16/B374D848`.
    public static func text(_ position: UInt64) -> String {
        let low = String(position & 0xffff_ffff, radix: 16, uppercase: true)
        return "\(String(position >> 32, radix: 16, uppercase: true))/\(low)"
    }

    /// The timeline in the name of a segment of the log, such as `000000020000000000000003`: its first eight digits.
    public static func timeline(ofSegment name: some StringProtocol) -> UInt32? {
        name.utf8.count == 24 ? Self.hexadecimal(name.prefix(8)) : nil
    }

    /// An insert position, with the header of the page before it taken off.
    ///
    /// The position where the next record goes is told behind the header of its page, even if that page has no record
    /// yet; a replica that has replayed everything stands at the end of the last record, before that header. Without
    /// this an idle cluster whose last record fills a page would look as if its replicas never caught up.
    ///
    /// - Parameters:
    ///   - blockSize: `wal_block_size`, bytes.
    ///   - segmentSize: `wal_segment_size`, bytes.
    public static func withoutPageHeader(_ position: UInt64, blockSize: UInt64, segmentSize: UInt64) -> UInt64 {
        guard blockSize > 0, segmentSize > 0 else { return position }
        let page = position - position % blockSize
        let header: UInt64 = page % segmentSize == 0 ? 40 : 24
        return position - page == header ? page : position
    }

    private static func hexadecimal(_ text: some StringProtocol) -> UInt32? {
        guard (1...8).contains(text.utf8.count), text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") }) else { return nil }
        return UInt32(text, radix: 16)
    }
}
