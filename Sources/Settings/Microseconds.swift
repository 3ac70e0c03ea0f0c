/// A duration or a point on a monotonic clock, in microseconds. Never negative in settings.
public typealias Microseconds = Int64

/// Durations as the configuration file writes them.
enum DurationText {
    /// The longest duration a setting may have: about 31 years, far from any overflow when it is added to a clock.
    static let longest: Microseconds = 1_000_000_000_000_000

    private static let units: [String: Microseconds] = [
        "us": 1,
        "ms": 1000,
        "": 1_000_000,
        "s": 1_000_000,
        "min": 60_000_000,
        "m": 60_000_000,
        "h": 3_600_000_000,
        "d": 86_400_000_000,
    ]

    /// Reads `15`, `0.25`, `250ms`, `5 min`: a decimal number, in seconds unless a unit follows.
    ///
    /// What is finer than a microsecond is cut off.
    static func parse(_ text: String) throws(InvalidValue) -> Microseconds {
        let number = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = text.dropFirst(number.count).drop { $0 == " " || $0 == "\t" }
        let parts = number.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        let whole = parts.first ?? ""
        let fraction = parts.count > 1 ? parts[1] : ""
        guard !(whole.isEmpty && fraction.isEmpty), !fraction.contains("."), let scale = Self.units[String(unit)] else {
            throw InvalidValue(
                text.isEmpty
                    ? "needs a value"
                    : "must be a time in seconds, or with one of the units us, ms, s, min, h, d, not \(quoted(text))")
        }
        let tooLong = InvalidValue("is too long a time: \(text)")
        guard let units = whole.isEmpty ? 0 : Microseconds(whole) else { throw tooLong }
        let (product, overflow) = units.multipliedReportingOverflow(by: scale)
        var total = product
        guard !overflow, total <= Self.longest else { throw tooLong }
        var digitScale = scale
        // Digit by digit, so that `0.1` is exact and any number of digits is harmless.
        for digit in fraction {
            guard let value = digit.wholeNumberValue, digitScale > 0 else { break }
            total += Microseconds(value) * digitScale / 10
            digitScale /= 10
        }
        guard total <= Self.longest else { throw tooLong }
        return total
    }

    /// The same, not shorter than `least`.
    static func parse(_ text: String, atLeast least: Microseconds) throws(InvalidValue) -> Microseconds {
        let value = try Self.parse(text)
        guard value >= least else { throw InvalidValue("must be at least \(Self.print(least)) s, not \(text)") }
        return value
    }

    /// Writes a duration in seconds with up to six decimals and no trailing zeros, as PgBouncer's console does.
    static func print(_ duration: Microseconds) -> String {
        let (seconds, rest) = duration.quotientAndRemainder(dividingBy: 1_000_000)
        guard rest != 0 else { return String(seconds) }
        var digits = String(rest)
        digits = String(repeating: "0", count: 6 - digits.count) + digits
        while digits.hasSuffix("0") { digits.removeLast() }
        return "\(seconds).\(digits)"
    }
}
