import Foundation
import Testing

@testable import Settings

/// The files in Config/ are the documentation of the keys, so they must not fall behind the table.
@Suite struct ConfigFileTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(components: "..", "..", "Config")

    private static func text(_ name: String) throws -> String {
        try String(contentsOf: self.folder.appending(component: name), encoding: .utf8)
    }

    private static func load(_ name: String) throws -> (settings: Settings?, diagnostics: [Diagnostic]) {
        let text = try self.text(name)
        return Settings.load(path: name) { _ in .success(Array(text.utf8)) }
    }

    @Test(arguments: ["martlet.ini", "minimal.ini", "routing.ini"])
    func theFileLoadsWithNothingToSay(name: String) throws {
        let (settings, diagnostics) = try Self.load(name)
        #expect(diagnostics == [])
        #expect(settings != nil)
    }

    @Test func everyKeyIsThereOnceWithItsDefault() throws {
        let text = try Self.text("martlet.ini")
        let section = try #require(text.range(of: "\n[martlet]\n"))
        var defaults: [String: String] = [:]
        for line in text[section.upperBound...].split(separator: "\n") where line.hasPrefix(";") {
            let parts = line.dropFirst().split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0].first != " " else { continue }
            let name = parts[0].trimmingCharacters(in: .whitespaces)
            #expect(defaults.updateValue(parts[1].trimmingCharacters(in: .whitespaces), forKey: name) == nil, "\(name)")
        }
        let plain = GeneralSettings()
        for key in GeneralSettings.keys {
            #expect(defaults.removeValue(forKey: key.name) == key.print(plain) ?? "", "\(key.name)")
        }
        #expect(defaults == [:])
    }

    @Test func everyKeyOfADatabaseUserAndPeerIsMentioned() throws {
        let words = Set(
            try Self.text("martlet.ini").split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init))
        let names =
            DatabaseSettings.keys.map(\.name) + DatabaseSettings.aliases.keys + UserSettings.keys.map(\.name)
            + PeerSettings.keys.map(\.name)
        #expect(names.filter { !words.contains($0) } == [])
    }
}
