import Glibc  // memchr: the texts of statements are long

extension Span where Element == UInt8 {
    /// Position of the first NUL at or behind a position; nil when there is none.
    public func firstNUL(from position: Int) -> Int? {
        let start = Swift.max(0, position)
        guard start < self.count else { return nil }
        return unsafe self.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, let found = unsafe memchr(base + start, 0, bytes.count - start) else {
                return nil
            }
            return unsafe base.distance(to: UnsafeRawPointer(found))
        }
    }

    /// Whether the bytes are the same.
    public func equals(_ other: Span<UInt8>) -> Bool {
        guard self.count == other.count else { return false }
        var index = 0
        while index &+ 8 <= self.count {
            if self.word(at: index) != other.word(at: index) { return false }
            index &+= 8
        }
        while index < self.count {
            if self[index] != other[index] { return false }
            index &+= 1
        }
        return true
    }

    /// Eight bytes, the first one lowest; the caller has seen that they are there.
    @inline(__always)
    private func word(at index: Int) -> UInt64 {
        // Bounds are checked by the extraction.
        let bytes = unsafe self.extracting(index..<(index &+ 8)).bytes
        return UInt64(littleEndian: unsafe bytes.unsafeLoadUnaligned(as: UInt64.self))
    }

    /// A copy of a range's bytes; the part of the range outside of the span is left out.
    public func copy(_ range: Range<Int>) -> [UInt8] {
        var result: [UInt8] = []
        result.append(self, range)
        return result
    }

    /// A range's bytes as text for people; what is not valid UTF-8 is replaced by U+FFFD.
    public func text(_ range: Range<Int>) -> String {
        unsafe self.extracting(range.clamped(to: 0..<self.count)).withUnsafeBufferPointer {
            unsafe String(decoding: $0, as: UTF8.self)
        }
    }

    /// A range's bytes as text; nil when they are not valid UTF-8.
    public func validText(_ range: Range<Int>) -> String? {
        guard let text = try? UTF8Span(validating: self.extracting(range.clamped(to: 0..<self.count))) else {
            return nil
        }
        return String(copying: text)
    }

    /// Whether a range's bytes are those of the text.
    public func equals(_ range: Range<Int>, _ text: StaticString) -> Bool {
        guard text.hasPointerRepresentation, range.count == text.utf8CodeUnitCount, range.lowerBound >= 0,
            range.upperBound <= self.count
        else { return false }
        return text.withUTF8Buffer { expected in
            for offset in 0..<range.count {
                if unsafe self[range.lowerBound &+ offset] != expected[offset] { return false }
            }
            return true
        }
    }
}

extension Array where Element == UInt8 {
    /// Appends a copy of a range's bytes; the part of the range outside of the span is left out.
    public mutating func append(_ bytes: Span<UInt8>, _ range: Range<Int>) {
        unsafe bytes.extracting(range.clamped(to: 0..<bytes.count)).withUnsafeBufferPointer {
            unsafe self.append(contentsOf: $0)
        }
    }

    /// Appends a copy of a span's bytes.
    public mutating func append(_ bytes: Span<UInt8>) {
        self.append(bytes, 0..<bytes.count)
    }
}
