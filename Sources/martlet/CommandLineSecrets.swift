import Glibc

/// Passwords on the command line, as in `martlet postgresql://alice:secret@host/db`: every user of the machine can read
/// it (ps), so they are taken off it.
enum CommandLineSecrets {
    /// Overwrites the passwords of connection URLs among the process's arguments. To be called once they are parsed.
    static func hide() {
        guard let arguments = Self.arguments else { return }
        for argument in arguments.split(separator: 0) {
            for place in Self.places(in: Array(argument)) {
                arguments[argument.startIndex + place] = UInt8(ascii: "x")
            }
        }
    }

    /// The same text with `x` for each byte of a password.
    static func hidden(_ argument: String) -> String {
        var bytes = Array(argument.utf8)
        for place in Self.places(in: bytes) { bytes[place] = UInt8(ascii: "x") }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Where passwords are in a connection URL: behind the user's name, and in parameters.
    ///
    /// Generous: special characters in a password should have been written as % and digits, and may have not.
    private static func places(in bytes: [UInt8]) -> [Int] {
        let scheme = ["postgresql://", "postgres://"].first { bytes.starts(with: $0.utf8) }
        guard let scheme else { return [] }
        var places: [Int] = []
        if let at = bytes.lastIndex(of: UInt8(ascii: "@")),
            let colon = bytes[scheme.utf8.count..<at].firstIndex(of: UInt8(ascii: ":"))
        {
            places += (colon + 1)..<at
        }
        let word = Array("password=".utf8)
        var start = 0
        while start + word.count <= bytes.count {
            guard bytes[start...].starts(with: word) else {
                start += 1
                continue
            }
            start += word.count
            while start < bytes.count, bytes[start] != UInt8(ascii: "&") {
                places.append(start)
                start += 1
            }
        }
        return places
    }

    /// The memory where the kernel has put the arguments, each with a zero byte behind it; nil if it does not say where.
    private static var arguments: UnsafeMutableBufferPointer<UInt8>? {
        // proc(5): of what stands behind the name in parentheses, fields 48 and 49 are `arg_start` and `arg_end`.
        guard let text = TextFile.read("/proc/self/stat", limit: 4096), let name = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[name...].dropFirst().split(whereSeparator: \.isWhitespace)
        guard fields.count > 46, let start = UInt(fields[45]), let end = UInt(fields[46]), start < end else {
            return nil
        }
        return UnsafeMutableBufferPointer(
            start: UnsafeMutablePointer(bitPattern: start), count: Int(clamping: end - start))
    }
}
