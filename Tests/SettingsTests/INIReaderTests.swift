import Testing

@testable import Settings

@Suite struct INIReaderTests {
    private func read(_ files: [String: [UInt8]]) -> INIReader {
        var reader = INIReader(sections: SettingsLoader.sections) { name in
            files[name].map { .success($0) } ?? .failure(FileError("No such file or directory"))
        }
        reader.readFile("a.ini")
        return reader
    }

    private func lines(_ text: String) -> [String] {
        self.read(["a.ini": Array(text.utf8)]).entries.map {
            "\($0.source.line) [\($0.section)] \($0.name)|\($0.value)"
        }
    }

    private func errors(_ text: String) -> [String] {
        self.read(["a.ini": Array(text.utf8)]).diagnostics.map(\.description)
    }

    @Test func commentsBlanksAndEmptyLines() {
        let text = """
            ; comment
              # comment behind blanks

            [ pgbouncer ]
              pool_mode\t=  session \t
            auth_query = SELECT ';' # not a comment
            logfile =
            """
        #expect(
            self.lines(text) == [
                "5 [pgbouncer] pool_mode|session", "6 [pgbouncer] auth_query|SELECT ';' # not a comment",
                "7 [pgbouncer] logfile|",
            ])
        #expect(self.errors(text) == [])
    }

    @Test func windowsLinesAndByteOrderMark() {
        #expect(self.lines("\u{FEFF}[users]\r\na = b\r\n\r\nc = d") == ["2 [users] a|b", "4 [users] c|d"])
    }

    @Test func quotedNames() {
        let text = """
            [databases]
            "two words" = x
            "a ""quoted"" one" = y
            "=" = z
            größe.1-2_* = w
            """
        #expect(
            self.lines(text) == [
                "2 [databases] two words|x", #"3 [databases] a "quoted" one|y"#, "4 [databases] =|z",
                "5 [databases] größe.1-2_*|w",
            ])
    }

    @Test(arguments: [
        "[users]\nno equals sign", "[users]\n= value", "[users]\ntwo words = x", "[users]\n\"open = x",
        "[users]\n\"\" = x",
        "[users]\n\"a\" b = x", "[users]\n\"",
    ])
    func linesThatAreNoEntry(text: String) {
        #expect(
            self.errors(text) == [
                "a.ini:2: expected name = value; a name with other characters than letters, digits, _.-* needs \"…\""
            ])
    }

    @Test(arguments: [
        ("[user]", #"a.ini:1: unknown section [user]; did you mean "users"?"#),
        ("[databases", "a.ini:1: a section must be written as [name] on a line of its own"),
        ("[users] a = b", "a.ini:1: a section must be written as [name] on a line of its own"),
        ("a = b", #"a.ini:1: "a" stands before the first section"#),
        ("%includes x", #"a.ini:1: unknown directive "%includes"; there is only %include"#),
        ("%include", "a.ini:1: %include needs the name of a file"),
        ("%include b.ini", #"a.ini:1: cannot read "b.ini": No such file or directory"#),
        ("%include a.ini", #"a.ini:1: %include "a.ini" leads back to a file that is being read"#),
        ("[users]\na = \0", "a.ini:2: not valid UTF-8, or a zero byte"),
    ])
    func mistakes(text: String, expected: String) {
        #expect(self.errors(text) == [expected])
    }

    @Test func anUnknownSectionIsToldOnceNotForEachLine() {
        #expect(self.errors("[nonsense]\na = b\nc = d").count == 1)
    }

    @Test func bytesThatAreNotUTF8AreAnErrorOutsideComments() {
        let reader = self.read(["a.ini": Array("; caf".utf8) + [0xE9, 0x0A] + Array("[users]\ncaf".utf8) + [0xE9]])
        #expect(reader.diagnostics.map(\.description) == ["a.ini:3: not valid UTF-8, or a zero byte"])
    }

    @Test func theSectionGoesOnInAndBehindAnIncludedFile() {
        let reader = self.read([
            "a.ini": Array("[users]\n%include sub/b.ini\nc = 3".utf8),
            "sub/b.ini": Array("a = 1\n[databases]\nb = 2".utf8),
        ])
        #expect(reader.diagnostics == [])
        #expect(
            reader.entries.map { "\($0.source) [\($0.section)]" } == [
                "sub/b.ini:1 [users]", "sub/b.ini:3 [databases]", "a.ini:3 [databases]",
            ])
    }

    @Test func oneFileMayBeIncludedTwiceOneAfterTheOther() {
        let reader = self.read(["a.ini": Array("%include b\n%include b".utf8), "b": Array("[users]\na=1".utf8)])
        #expect(reader.diagnostics == [])
        #expect(reader.entries.count == 2)
    }

    @Test func includesAreBounded() {
        var files: [String: [UInt8]] = ["a.ini": Array("%include 1".utf8)]
        for number in 1...20 {
            files["\(number)"] = Array("%include \(number + 1)".utf8)
        }
        #expect(
            self.read(files).diagnostics.map(\.description) == [
                #"10:1: %include "11" is nested deeper than 10 files"#
            ])
    }

    @Test func aMissingMainFile() {
        #expect(self.read([:]).diagnostics.map(\.description) == [#"cannot read "a.ini": No such file or directory"#])
    }
}
