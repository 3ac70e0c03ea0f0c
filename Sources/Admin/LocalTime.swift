import Glibc
import Settings

/// Time of day as the console prints it.
enum LocalTime {
    /// `2026-11-21 05:00:00 UTC`, in the server's time zone, as PgBouncer prints it; empty for 0.
    static func text(_ microsecondsSince1970: Microseconds) -> String {
        guard microsecondsSince1970 > 0 else { return "" }
        var seconds = time_t(microsecondsSince1970 / 1_000_000)
        var parts = tm()
        guard localtime_r(&seconds, &parts) != nil else { return "" }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 80) { buffer in
            guard let text = buffer.baseAddress else { return "" }
            let length = strftime(text, buffer.count, "%Y-%m-%d %H:%M:%S %Z", &parts)
            return String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }
}
