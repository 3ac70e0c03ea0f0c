@testable import SQL

extension FuzzTarget {
    /// Commands to the router, and comments that say where a statement shall run.
    static let router = FuzzTarget(name: "router") { bytes in
        let command = RouterCommand(bytes.span)
        try checkComment(bytes)
        guard let command else { return }
        switch command {
        case .set(let name, let value):
            try expect(isName(name), "set of \(name.debugDescription)")
            // By bytes: to Swift a quote with an accent is another character.
            let quoted = String(decoding: value.utf8.flatMap { $0 == 0x27 ? [$0, $0] : [$0] }, as: UTF8.self)
            try checkAgain("SET /* x */ martlet . \(name)\n= '\(quoted)' ; ", command)
        case .reset(let name):
            try expect(isName(name), "reset of \(name.debugDescription)")
            try checkAgain("reset martlet.\(name) -- x", command)
            try checkAgain("SET martlet.\(name) TO default", command)
        case .show(let name):
            try expect(isName(name), "show of \(name.debugDescription)")
            try checkAgain("/**/ShOw MARTLET.\(name);;", command)
        }
        // What is taken from the server must be a command of this kind to it as well.
        var classifier = Classifier(catalogue: Catalogue())
        let kind = classifier.classify(bytes.span, standardConformingStrings: true).statementClass
        try expect(kind.isUnparsed || kind.kind == .primary, "a command that is also \(kind.reason)")
    }

    private static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.allSatisfy { Lexer.isWordPart($0) } && !name.utf8.contains { $0 &- 65 < 26 }
    }

    private static func checkAgain(_ text: String, _ command: RouterCommand) throws {
        let bytes = Array(text.utf8)
        let again = RouterCommand(bytes.span)
        try expect(
            again == command, "\(command), written again \(String(describing: again)) of \(text.debugDescription)")
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
