@testable import Admin

extension FuzzTarget {
    /// What is typed into the console.
    static let console = FuzzTarget(name: "console") { bytes in
        let command: ConsoleCommand
        do {
            command = try ConsoleCommand(parsing: bytes)
        } catch {
            return
        }
        switch command {
        case .explainRoute(let statement, _):
            try expect(!statement.isEmpty && bytes.suffix(statement.count) == statement[...], "explains something else")
        case .set(let key, let value):
            try expect(!key.isEmpty, "set of nothing")
            let again = "SET \"\(key.quoted("\""))\" = '\(value.quoted("'"))' ;"
            // A name in capitals outside of ASCII may change with each lower-casing.
            guard key.utf8.allSatisfy({ $0 < 0x80 }) else { return }
            try expect(try ConsoleCommand(parsing: Array(again.utf8)) == command, "\(command) written again: \(again)")
        case .disable(let database):
            let again = "-- x\n; DISABLE /* ; */ \"\(database.quoted("\""))\""
            try expect(try ConsoleCommand(parsing: Array(again.utf8)) == command, "\(command) written again: \(again)")
        case .pause(let database):
            let again = "pause" + (database.map { " \"\($0.quoted("\""))\"" } ?? "")
            try expect(try ConsoleCommand(parsing: Array(again.utf8)) == command, "\(command) written again: \(again)")
        case .empty, .show, .showSetting, .reload, .resume, .enable, .reconnect, .forget, .kill, .killClient,
            .waitClose,
            .shutdown:
            break
        }
    }
}

extension String {
    /// With each of these quotes doubled. Not by characters: a quote with an accent is another one.
    fileprivate func quoted(_ quote: Unicode.Scalar) -> String {
        var result = String.UnicodeScalarView()
        for scalar in self.unicodeScalars { result += scalar == quote ? [scalar, scalar] : [scalar] }
        return String(result)
    }
}
