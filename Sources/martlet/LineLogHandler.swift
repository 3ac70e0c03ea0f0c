import Glibc
import Logging
import Settings

/// Writes log events as lines in PgBouncer's format, which log collectors already know:
///
///     2026-11-21 05:00:00.123 UTC [4711] LOG C-0x2a: shop/alice@10.0.0.7:51234 login attempt: …
///
/// What comes before the message names the connection; a caller gives it as metadata `connection`. Other metadata
/// follow the message as `key=value`.
struct LineLogHandler: LogHandler {
    private let output: LogOutput
    private var ownLevel: Logger.Level?
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?

    init(output: LogOutput) {
        self.output = output
    }

    /// The output's, which a reload may change, unless this logger was given its own.
    var logLevel: Logger.Level {
        get { self.ownLevel ?? self.output.level }
        set { self.ownLevel = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var metadata = self.metadata
        if let provided = self.metadataProvider?.get() { metadata.merge(provided) { $1 } }
        if let own = event.metadata { metadata.merge(own) { $1 } }
        let message = LogLine.message(event.message.description, metadata)
        let line = LogLine.line(message, level: event.level, time: LogLine.now, processID: getpid())
        self.output.write(line: Array(line.utf8), message: message, level: event.level)
    }
}

/// The text of a log line.
enum LogLine {
    /// Longest message, in bytes; what is longer is cut. Names in it may come from the network.
    static let maximumLength = 8192

    /// The message with its connection and its metadata, in one line of harmless characters.
    static func message(_ text: String, _ metadata: Logger.Metadata) -> String {
        var message = ""
        if let connection = metadata["connection"] { message += "\(connection) " }
        message += text
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) where key != "connection" {
            message += " \(key)=\(value)"
        }
        return HarmlessText.line(message, limit: Self.maximumLength)
    }

    static func line(_ message: String, level: Logger.Level, time: timespec, processID: pid_t) -> String {
        "\(Self.timestamp(time)) [\(processID)] \(level.name) \(message)\n"
    }

    static var now: timespec {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return time
    }

    /// `2026-11-21 05:00:00.123 UTC`, in the local time zone.
    static func timestamp(_ time: timespec) -> String {
        var seconds = time.tv_sec
        var parts = tm()
        guard localtime_r(&seconds, &parts) != nil else { return "\(time.tv_sec)" }
        let zone = parts.tm_zone.map { String(cString: $0) } ?? "UTC"
        return "\(parts.tm_year + 1900)-\(Self.padded(Int(parts.tm_mon) + 1))-\(Self.padded(Int(parts.tm_mday))) "
            + "\(Self.padded(Int(parts.tm_hour))):\(Self.padded(Int(parts.tm_min))):\(Self.padded(Int(parts.tm_sec)))"
            + ".\(Self.padded(time.tv_nsec / 1_000_000, 3)) \(zone)"
    }

    private static func padded(_ number: Int, _ width: Int = 2) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}

extension Logger.Level {
    /// PgBouncer's words.
    fileprivate var name: String {
        switch self {
        case .trace: "NOISE"
        case .debug: "DEBUG"
        case .info, .notice: "LOG"
        case .warning: "WARNING"
        case .error: "ERROR"
        case .critical: "FATAL"
        }
    }
}
