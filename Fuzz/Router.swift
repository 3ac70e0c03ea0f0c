@testable import SQL

extension FuzzTarget {
    /// Commands to the router, and comments that say where a statement shall run.
    static let router = FuzzTarget(name: "router") { bytes in
        let command = RouterCommand(bytes.span)
        try checkComment(bytes)
        guard let command else { return }
        if case .set(let name, .text(let value)?, let isLocal)? = command.only {
            // By bytes: to Swift a quote with an accent is another character.
            func quoted(_ text: String, _ quote: UInt8) -> String {
                String(decoding: text.utf8.flatMap { $0 == quote ? [$0, $0] : [$0] }, as: UTF8.self)
            }
            let title = quoted("martlet.\(name)", 0x22)
            try checkAgain(
                "SET \(isLocal ? "LOCAL" : "") /* x */ \"\(title)\"\n= '\(quoted(value, 0x27))' ; ", command)
        }
        // What is taken from the server is about settings to its parser as well.
        var classifier = Classifier(catalogue: Catalogue())
        let kind = classifier.classify(bytes.span, standardConformingStrings: true).statementClass
        if case .statements = command.content {
            try expect(kind.namesSettings, "a command that is also \(kind.reason)")
        }
    }

    private static func checkAgain(_ text: String, _ command: RouterCommand) throws {
        let bytes = Array(text.utf8)
        let again = RouterCommand(bytes.span)
        try expect(again == command, "\(command.content), written again \(String(describing: again?.content))")
    }

    /// A comment's wish is the same as a line of its own; no literal has one.
    private static func checkComment(_ bytes: [UInt8]) throws {
        var classifier = Classifier(catalogue: Catalogue())
        func override(_ text: [UInt8]) -> RouteOverride? {
            classifier.classify(text.span, standardConformingStrings: true).override
        }
        guard !bytes.contains(UInt8(ascii: "*")), !bytes.contains(UInt8(ascii: "/")) else { return }
        let wish = RouteOverride(comment: bytes.span, from: 0, to: bytes.count)
        try expect(override(Array("SELECT /*".utf8) + bytes + Array("*/ 1".utf8)) == wish, "a comment is not heard")
        guard !bytes.contains(UInt8(ascii: "\n")), !bytes.contains(UInt8(ascii: "\r")) else { return }
        try expect(override(Array("--".utf8) + bytes) == wish, "a line's comment is not heard")
        guard !bytes.contains(UInt8(ascii: "'")) else { return }
        try expect(override(Array("SELECT '/*".utf8) + bytes + Array("*/'".utf8)) == nil, "a literal is heard")
    }
}
