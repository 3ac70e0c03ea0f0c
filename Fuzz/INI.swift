@testable import Settings

extension FuzzTarget {
    /// The configuration file, and a database's URL.
    static let ini = FuzzTarget(name: "ini") { bytes in
        let (settings, diagnostics) = load(bytes)
        let hasError = diagnostics.contains { $0.severity == .error }
        try expect((settings == nil) == hasError, "settings and an error, or neither")
        for diagnostic in diagnostics {
            try expect(!"\(diagnostic)".contains("\n"), "a diagnostic of two lines: \(diagnostic)")
        }
        let text = String(decoding: bytes, as: UTF8.self)
        _ = Settings.forURL("postgresql://" + (text.split(separator: "\n").first ?? ""))
        guard let settings else { return }
        try expect(Settings.changes(from: settings, to: settings).isEmpty, "differs from itself")
        try checkRemarks(bytes, settings)
        try checkValues(settings)
    }

    private static func load(_ bytes: [UInt8]) -> (settings: Settings?, diagnostics: [Diagnostic]) {
        Settings.load(path: "martlet.ini") {
            switch $0 {
            case "martlet.ini": .success(bytes)
            case "other.ini": .success(Array("[users]\nother = pool_mode=session\n%include third.ini\n".utf8))
            default: .failure(FileError("No such file or directory"))
            }
        }
    }

    /// Remarks and blank lines between the lines mean nothing.
    private static func checkRemarks(_ bytes: [UInt8], _ settings: Settings) throws {
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let remark = Array("\r\n ; [martlet]\n\t# listen_port = 1\n\n".utf8)
        guard let other = load(Array(lines.joined(separator: remark))).settings else {
            throw Broken(description: "refused with remarks between its lines")
        }
        try expect(Settings.changes(from: settings, to: other).isEmpty, "remarks between the lines change it")
    }

    /// What a setting prints, it takes again and means the same.
    private static func checkValues(_ settings: Settings) throws {
        for key in GeneralSettings.keys {
            guard let value = key.print(settings.general), !value.isEmpty else { continue }
            var general = settings.general
            do {
                try key.parse(value, &general)
            } catch {
                throw Broken(description: "\(key.name) does not take \(value.debugDescription), which is its own value")
            }
            try expect(key.print(general) == value, "\(key.name) = \(value.debugDescription) changes when read again")
        }
    }
}
