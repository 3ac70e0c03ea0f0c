/// The startup parameter `options`: switches of a server's command line.
///
/// Those that make a setting are understood: `-c name=value` (also `-cname=value`) and `--name=value`. They are cut at
/// white space; a backslash takes the special meaning from the byte behind it (PostgreSQL manual, "Connecting to the
/// Database", `options`).
public enum StartupOptions {
    /// Reads the settings, in order.
    ///
    /// A `-` in a name stands for `_`, as on a server's command line.
    public static func parse(_ options: Span<UInt8>) throws(StartupOptionsError) -> [StartupParameter] {
        var parameters: [StartupParameter] = []
        var position = 0
        while let word = self.word(options, &position) {
            if word.starts(with: "--".utf8) {
                parameters.append(try self.setting(word[2...], switch: "--"))
            } else if word.starts(with: "-c".utf8) {
                if word.count > 2 {
                    parameters.append(try self.setting(word[2...], switch: "-c "))
                } else {
                    guard let setting = self.word(options, &position) else { throw .missingArgument }
                    parameters.append(try self.setting(setting[...], switch: "-c "))
                }
            } else {
                throw .unknownSwitch(String(decoding: word, as: UTF8.self))
            }
        }
        return parameters
    }

    /// The next word, with its backslashes resolved; nil at the end.
    private static func word(_ options: Span<UInt8>, _ position: inout Int) -> [UInt8]? {
        while position < options.count, self.isSpace(options[position]) { position += 1 }
        guard position < options.count else { return nil }
        var word: [UInt8] = []
        var escaped = false
        while position < options.count {
            let byte = options[position]
            if self.isSpace(byte) && !escaped { break }
            if byte == UInt8(ascii: "\\") && !escaped {
                escaped = true
            } else {
                escaped = false
                word.append(byte)
            }
            position += 1
        }
        return word
    }

    private static func setting(
        _ text: ArraySlice<UInt8>, switch prefix: String
    ) throws(StartupOptionsError) -> StartupParameter {
        let equals = text.firstIndex(of: UInt8(ascii: "="))
        let nameBytes = text[..<(equals ?? text.endIndex)].map { $0 == UInt8(ascii: "-") ? UInt8(ascii: "_") : $0 }
        let name = String(decoding: nameBytes, as: UTF8.self)
        guard let equals else { throw .missingValue(prefix + name) }
        guard !name.isEmpty else { throw .emptyName }
        return StartupParameter(name: name, value: Array(text[(equals + 1)...]))
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || (9...13).contains(byte)
    }
}

/// Why `options` are refused.
public enum StartupOptionsError: Error, Sendable, Equatable {
    /// A switch other than `-c` and `--name`, or a word that is none.
    case unknownSwitch(String)
    /// `-c` is the last word.
    case missingArgument
    /// A setting without `=`; the switch as written.
    case missingValue(String)
    /// A setting whose name is empty (`-c =x`).
    case emptyName

    /// SQLSTATE of the ErrorResponse.
    public var sqlState: String { SQLState.syntaxError }

    /// Text of the ErrorResponse.
    public var message: String {
        switch self {
        case .unknownSwitch(let word): "invalid command-line argument for server process: \(word)"
        case .missingArgument: "-c requires an argument"
        case .missingValue(let word): "\(word) requires a value"
        case .emptyName: "options contain a setting without a name"
        }
    }
}
