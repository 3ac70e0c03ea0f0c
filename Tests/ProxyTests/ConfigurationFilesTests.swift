import Authentication
import TestSupport
import Testing

@testable import Proxy
@testable import Settings

struct ConfigurationFilesTests {
    private func load(
        _ files: [String: String], _ type: AuthType = .hba
    ) -> (configuration: Configuration?, problems: [String]) {
        var settings = Settings()
        settings.general.authType = type
        settings.general.authFile = "users"
        settings.general.authHbaFile = "hba"
        settings.general.authIdentFile = "ident"
        return Configuration.load(settings) { path in
            files[path].map { .success(Array($0.utf8)) } ?? .failure(FileError("No such file or directory"))
        }
    }

    private static let good = [
        "users": #""app" "x""#, "hba": "local all all peer map=m\nhost all @names all md5", "ident": "m joe app",
        "names": "app",
    ]

    @Test func allFilesAreRead() throws {
        let (configuration, problems) = self.load(Self.good)
        #expect(problems.isEmpty)
        #expect(try #require(configuration).hba.rules.count == 2)
        #expect(configuration?.secrets.keys.sorted() == ["app"])
    }

    @Test(
        arguments: [
            ("users", nil, "auth_file: cannot read users: No such file or directory"),
            ("hba", nil, "auth_hba_file: cannot read hba: No such file or directory"),
            ("ident", nil, "auth_ident_file: cannot read ident: No such file or directory"),
            ("names", nil, "hba:2: cannot read names: No such file or directory"),
            (
                "hba", "host all +x all md5",
                "hba:1: +x: membership in a role is not known here, name the users or an @file"
            ),
            ("ident", "m joe", "ident:1: a line has a map, a system name and a user"),
            ("ident", "other joe app", "hba:1: map=m: there is no such map in auth_ident_file"),
            ("users", "", "auth_file: users names no user: nobody could log in"),
            ("users", "app x", "users:1: user in double quotes expected"),
            ("hba", "# none", "auth_hba_file: hba has no rules: nobody could log in"),
        ] as [(String, String?, String)])
    func errors(file: String, text: String?, problem: String) {
        var files = Self.good
        files[file] = text
        let (configuration, problems) = self.load(files)
        #expect(configuration == nil)
        #expect(problems == [problem])
    }

    @Test func withoutHBANoRulesAreRead() {
        let (configuration, problems) = self.load(["users": "\"app\" \"secret\""], .md5)
        #expect(configuration?.hba == HBA())
        #expect(problems.isEmpty)
    }

    @Test("unknown users are asked for what most users are asked for")
    func preferredMethod() throws {
        let plain = Secret.plain(SecretBytes(bytes("pw")))
        let scram = Secret.scram(try verifier("pw"))
        for (secrets, prefersSCRAM) in [
            ([:], false), (["a": plain], false), (["a": scram], true), (["a": scram, "b": plain], false),
            (["a": scram, "b": scram, "c": plain], true),
        ] as [([String: Secret], Bool)] {
            #expect(Configuration(settings: Settings(), secrets: secrets).prefersSCRAM == prefersSCRAM)
        }
    }
}
