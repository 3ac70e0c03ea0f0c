import Wire

/// The values of settings as a server reports them, as far as that is known without a server.
///
/// Clients write "utf-8" and "ISO" where a server reports "UTF8" and "ISO, MDY". With the server's form the client's
/// settings equal those of the server connections, and nothing has to be set.
enum ParameterValues {
    /// The server's form of a value.
    ///
    /// - Parameters:
    ///   - key: the setting's name in lower case.
    ///   - base: the value the setting would have else, for those of which a part can be given.
    static func canonical(_ key: String, _ value: [UInt8], base: Parameter?) throws(ParameterError) -> [UInt8] {
        guard value.allSatisfy({ $0 < 128 }) else { return value }
        let text = String(decoding: value, as: UTF8.self)
        switch key {
        case "client_encoding":
            guard let encoding = self.encoding(text) else { throw .invalidValue(name: key, value: text) }
            return Array(encoding.utf8)
        case "standard_conforming_strings", "default_transaction_read_only":
            guard let isOn = Bool(postgreSQL: text) else { throw .invalidValue(name: key, value: text) }
            return Array((isOn ? "on" : "off").utf8)
        case "intervalstyle":
            return Array(text.lowercased().utf8)
        case "datestyle":
            return self.dateStyle(text, base: base?.text ?? "ISO, MDY").map { Array($0.utf8) } ?? value
        default:
            return value
        }
    }

    /// Whether every server takes the value, whatever its version and its tables are.
    static func isSure(_ parameter: Parameter) -> Bool {
        let text = parameter.text
        return switch parameter.key {
        case "application_name": true
        case "client_encoding": ["UTF8", "SQL_ASCII", "LATIN1"].contains(text)
        case "standard_conforming_strings", "default_transaction_read_only": Bool(postgreSQL: text) != nil
        case "datestyle": self.dateStyle(text, base: "ISO, MDY") != nil
        case "intervalstyle": ["postgres", "postgres_verbose", "sql_standard", "iso_8601"].contains(text)
        case "extra_float_digits": Int(text).map { -15...3 ~= $0 } ?? false
        case "bytea_output": ["hex", "escape"].contains(text)
        default: false
        }
    }

    /// A date style in full, its missing part taken from another one; nil when it is not understood.
    static func dateStyle(_ text: String, base: String) -> String? {
        var style: String?
        var order: String?
        let isEmpty = text.allSatisfy(\.isWhitespace)
        let words = isEmpty ? [] : text.lowercased().split(separator: ",", omittingEmptySubsequences: false)
        for part in words {
            let pieces = part.split(whereSeparator: \.isWhitespace)
            guard pieces.count == 1, let word = pieces.first else { return nil }
            let newStyle: String? =
                switch word {
                case "iso": "ISO"
                case "sql": "SQL"
                case "german": "German"
                case _ where word.hasPrefix("postgres"): "Postgres"
                default: nil
                }
            let newOrder: String? =
                switch word {
                case "ymd": "YMD"
                case "dmy": "DMY"
                case "mdy", "us": "MDY"
                case _ where word.hasPrefix("euro"): "DMY"
                case _ where word.hasPrefix("noneuro"): "MDY"
                default: nil
                }
            // Each part at most once: a server refuses two different ones.
            if let newStyle, style ?? newStyle == newStyle {
                style = newStyle
            } else if let newOrder, order ?? newOrder == newOrder {
                order = newOrder
            } else {
                return nil
            }
        }
        let parts = base.split(separator: ", ").map(String.init)
        guard parts.count == 2 else { return nil }
        // German implies its order.
        if style == "German" { order = order ?? "DMY" }
        return "\(style ?? parts[0]), \(order ?? parts[1])"
    }

    /// A client encoding's name as a server writes it; nil for an unknown one.
    ///
    /// PostgreSQL compares letters and digits only (manual, "Character Set Support").
    static func encoding(_ name: String) -> String? {
        var key = name.lowercased().filter { $0.isASCII && ($0.isLetter || $0.isNumber) }
        if let isoPart = self.isoLatin[key] { return isoPart }
        if key.hasPrefix("windows") { key = "win" + key.dropFirst(7) }
        return self.encodings[key]
    }

    private static let isoLatin: [String: String] = [
        "iso88591": "LATIN1", "iso88592": "LATIN2", "iso88593": "LATIN3", "iso88594": "LATIN4", "iso88599": "LATIN5",
        "iso885910": "LATIN6", "iso885913": "LATIN7", "iso885914": "LATIN8", "iso885915": "LATIN9",
        "iso885916": "LATIN10",
    ]

    private static let encodings: [String: String] = {
        var table: [String: String] = [
            "abc": "WIN1258", "alt": "WIN866", "koi8": "KOI8R", "mskanji": "SJIS", "shiftjis": "SJIS",
            "tcvn": "WIN1258", "tcvn5712": "WIN1258", "vscii": "WIN1258", "unicode": "UTF8", "win": "WIN1251",
            "win932": "SJIS", "win936": "GBK", "win949": "UHC", "win950": "BIG5",
        ]
        let names = [
            "SQL_ASCII", "EUC_JP", "EUC_CN", "EUC_KR", "EUC_TW", "EUC_JIS_2004", "UTF8", "MULE_INTERNAL", "LATIN1",
            "LATIN2", "LATIN3", "LATIN4", "LATIN5", "LATIN6", "LATIN7", "LATIN8", "LATIN9", "LATIN10", "WIN1250",
            "WIN1251", "WIN1252", "WIN1253", "WIN1254", "WIN1255", "WIN1256", "WIN1257", "WIN1258", "WIN866", "WIN874",
            "KOI8R", "KOI8U", "ISO_8859_5", "ISO_8859_6", "ISO_8859_7", "ISO_8859_8", "SJIS", "BIG5", "GBK", "UHC",
            "GB18030", "JOHAB", "SHIFT_JIS_2004",
        ]
        for name in names { table[name.lowercased().filter { $0 != "_" }] = name }
        return table
    }()
}
