import Glibc
import Logging
import Testing

@testable import martlet

@Suite struct LogLineTests {
    @Test func lineIsPgBouncers() {
        setenv("TZ", "UTC", 1)
        let time = timespec(tv_sec: 1_795_237_200, tv_nsec: 7_999_999)
        let line = LogLine.line("login failed", level: .warning, time: time, processID: 4711)
        #expect(line == "2026-11-21 05:00:00.007 UTC [4711] WARNING login failed\n")
    }

    @Test(
        arguments: [
            (.trace, "NOISE"), (.debug, "DEBUG"), (.info, "LOG"), (.notice, "LOG"), (.warning, "WARNING"),
            (.error, "ERROR"), (.critical, "FATAL"),
        ] as [(Logger.Level, String)])
    func levels(level: Logger.Level, name: String) {
        let line = LogLine.line("x", level: level, time: timespec(), processID: 1)
        #expect(line.hasSuffix("[1] \(name) x\n"))
    }

    @Test(
        arguments: [
            ("plain größe 💡", "plain größe 💡"),
            ("two\nlines\r\n", "two\\nlines\\r\\n"),
            ("tab\there", "tab\\there"),
            ("\u{1b}[31mred", "\\x1b[31mred"),
            ("nul\u{0}", "nul\\x00"),
            ("delete\u{7f} csi\u{9b}", "delete\\x7f csi\\x9b"),
            ("line\u{2028}and paragraph\u{2029}", "line\\u{2028}and paragraph\\u{2029}"),
            ("next line\u{85}", "next line\\x85"),
            ("\u{202e}backwards\u{202c}", "\\u{202e}backwards\\u{202c}"),
            ("\u{2066}isolated\u{2069} \u{200f}", "\\u{2066}isolated\\u{2069} \\u{200f}"),
            ("a\u{200b}b\u{feff}c\u{ad}d", "a\\u{200b}b\\u{feff}c\\xadd"),
            ("hidden\u{e0041}\u{3164}", "hidden\\u{e0041}\\u{3164}"),
        ])
    func controlCharactersAreHarmless(text: String, escaped: String) {
        #expect(LogLine.message(text, [:]) == escaped)
    }

    @Test func connectionComesFirstAndMetadataLast() {
        let metadata: Logger.Metadata = ["b": "2", "connection": "C-0x2a: shop/al\nice@10.0.0.7:51234", "a": "1"]
        #expect(LogLine.message("closing", metadata) == "C-0x2a: shop/al\\nice@10.0.0.7:51234 closing a=1 b=2")
    }

    @Test func longMessagesAreCut() {
        let message = LogLine.message(String(repeating: "ü", count: 100_000), [:])
        #expect(message.utf8.count <= LogLine.maximumLength + 4)
        #expect(message.hasSuffix("…"))
    }
}

@Suite struct LogOutputTests {
    @Test func fileIsOpenedAnewAfterItWasMovedAway() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("martlet.log")
        let output = LogOutput(standardError: false)
        try output.configure(.init(file: path))
        output.write(line: Array("one\n".utf8), message: "one", level: .info)
        #expect(rename(path, path + ".1") == 0)
        output.write(line: Array("two\n".utf8), message: "two", level: .info)
        try output.configure(.init(file: path))
        output.write(line: Array("three\n".utf8), message: "three", level: .info)
        #expect(TextFile.read(path + ".1", limit: 100) == "one\ntwo\n")
        #expect(TextFile.read(path, limit: 100) == "three\n")
        try output.configure(.init(file: ""))
        output.write(line: Array("four\n".utf8), message: "four", level: .info)
        #expect(TextFile.read(path, limit: 100) == "three\n")
    }

    @Test func fileThatCannotBeOpenedLeavesTheFormerOne() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("martlet.log")
        let output = LogOutput(standardError: false)
        try output.configure(.init(file: path))
        #expect(throws: LaunchError.self) { try output.configure(.init(file: directory.file("missing/martlet.log"))) }
        output.write(line: Array("one\n".utf8), message: "one", level: .info)
        #expect(TextFile.read(path, limit: 100) == "one\n")
    }

    @Test(arguments: [(0, .info), (1, .debug), (2, .trace), (9, .trace)] as [(Int, Logger.Level)])
    func verbosity(verbosity: Int, level: Logger.Level) throws {
        let output = LogOutput(standardError: false)
        try output.configure(.init(verbosity: verbosity))
        #expect(output.level == level)
    }

    @Test func loggerFollowsTheOutputUnlessItHasItsOwnLevel() throws {
        let output = LogOutput(standardError: false)
        let handler = LineLogHandler(output: output)
        var own = handler
        own.logLevel = .error
        try output.configure(.init(verbosity: 1))
        #expect(handler.logLevel == .debug)
        #expect(own.logLevel == .error)
    }
}

/// A directory that goes with the test.
final class TemporaryDirectory {
    private let path: String

    init() throws {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw LaunchError("mkdtemp: \(LaunchError.systemReason)") }
        self.path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    func file(_ name: String) -> String { "\(self.path)/\(name)" }

    deinit {
        if let directory = opendir(self.path) {
            while let entry = readdir(directory) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                    String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != ".", name != ".." { unlink(self.file(name)) }
            }
            closedir(directory)
        }
        rmdir(self.path)
    }
}
