import Testing

@testable import Settings

@Suite struct URLTests {
    @Test func aServerAndADatabase() throws {
        let settings = try #require(Settings.forURL("postgresql://app:secret@pg1:5433/shop?pool_size=7").settings)
        #expect(settings.general.listenAddr == ["127.0.0.1"])
        #expect(settings.general.listenPort == 6432)
        #expect(settings.general.listenSocketPath == nil)
        #expect(settings.general.authType == .any)
        #expect(settings.general.poolMode == .transaction)
        for (name, isAutomatic) in [("shop", false), ("other", true)] {
            let database = try #require(settings.database(named: name))
            #expect(database.serverDatabase == name)
            #expect(database.isAutomatic == isAutomatic)
            #expect(database.user == "app" && database.password == "secret" && database.poolSize == 7)
            #expect(database.hosts == [HostAddress(host: "pg1", port: 5433)])
        }
    }

    @Test func whatTheURLLeavesOutIsTakenFromTheCaller() throws {
        let settings = try #require(
            Settings.forURL("postgresql:///", defaultUser: "me", defaultPassword: "pw").settings)
        let database = try #require(settings.database(named: "me"))
        #expect(database.user == "me" && database.password == "pw" && database.serverDatabase == "me")
        #expect(database.hosts == [HostAddress(host: "/var/run/postgresql")])
    }

    @Test(arguments: [
        ("shop", "the connection string must begin with postgresql://"),
        (
            "postgresql://u:secret@h/%",
            #"the connection string of database "*" has a "%" in its URL that is not followed"#
                + " by two hexadecimal digits other than 00"
        ),
        (
            "postgresql://u:secret@h/db?pool_siz=3",
            #"unknown key "pool_siz" of database "*"; did you mean "pool_size"?"#
        ),
    ])
    func mistakes(url: String, expected: String) {
        let (settings, diagnostics) = Settings.forURL(url)
        #expect(settings == nil)
        #expect(diagnostics.map(\.description) == [expected])
    }
}
