import Admin
import Proxy
import Sessions
import Settings
import Testing

@Suite struct ConsoleTests {
    // MARK: Control

    @Test(
        arguments: [
            ("RELOAD", "RELOAD", "reload"),
            ("PAUSE", "PAUSE", "pause all"),
            ("PAUSE shop", "PAUSE", "pause shop"),
            ("DISABLE shop", "DISABLE", "disable shop"),
            ("ENABLE shop", "ENABLE", "enable shop"),
            ("RECONNECT", "RECONNECT", "reconnect all"),
            ("FORGET shop", "FORGET", "forget shop"),
            ("RECONNECT shop", "RECONNECT", "reconnect shop"),
            ("KILL", "KILL", "kill all"),
            ("KILL shop", "KILL", "kill shop"),
            ("KILL_CLIENT 7", "KILL_CLIENT", "killClient 7"),
            ("KILL_CLIENT 0x1f", "KILL_CLIENT", "killClient 31"),
            ("WAIT_CLOSE", "WAIT_CLOSE", "waitClose all"),
            ("WAIT_CLOSE shop", "WAIT_CLOSE", "waitClose shop"),
            ("SET verbose = 1", "SET verbose=1", "set verbose=1"),
            ("SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN", "shutdown waitForServers"),
            ("SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN", "shutdown waitForClients"),
        ])
    func command(query: String, tag: String, call: String) async {
        let host = FakeHost()
        let answer = await Answer.to(query, host)
        #expect(answer.types == "CZ")
        #expect(answer.tag == tag)
        #expect(await host.calls == [call])
    }

    @Test(
        arguments: [
            "RELOAD", "PAUSE", "RESUME", "DISABLE shop", "ENABLE shop", "RECONNECT", "FORGET shop", "KILL",
            "KILL_CLIENT 7",
            "WAIT_CLOSE",
            "SET verbose = 1", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS",
        ])
    func statsUserMayOnlyShow(query: String) async {
        let host = FakeHost()
        let answer = await Answer.to(query, as: .stats, host)
        #expect(answer.types == "EZ")
        #expect(answer.error == .init(severity: "ERROR", sqlState: "08P01", message: "admin access needed"))
        #expect(await host.calls.isEmpty)
        #expect(await Answer.to("SHOW POOLS", as: .stats, host).tag == "SHOW")
    }

    @Test(
        arguments: [
            ("RECONNECT unknown", "no such database: unknown"),
            ("RESUME unknown", "no such database: unknown"),
            ("RESUME shop", "database shop is not paused"),
            ("RESUME", "pooler is not paused"),
            ("KILL_CLIENT 404", "client not found"),
            ("KILL_CLIENT", "invalid client pointer supplied"),
            ("KILL_CLIENT bob", "invalid client pointer supplied"),
            ("KILL_CLIENT 99999999999999999999", "invalid client pointer supplied"),
            ("DISABLE", "a database is required"),
            ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
            ("KILL pgbouncer", "cannot kill admin db: pgbouncer"),
            ("DISABLE pgbouncer", "cannot disable admin db: pgbouncer"),
            ("WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer"),
            ("SET verbose = refused", "verbose cannot be set"),
            ("SELECT 1", "invalid command 'SELECT 1', use SHOW HELP;"),
            ("DROP TABLE users", "invalid command 'DROP TABLE users', use SHOW HELP;"),
        ])
    func error(query: String, message: String) async {
        let host = FakeHost { $0.databases = [DatabaseStatus(settings: DatabaseSettings(name: "shop"))] }
        let answer = await Answer.to(query, host)
        #expect(answer.types == "EZ")
        #expect(answer.error == .init(severity: "ERROR", sqlState: "08P01", message: message))
    }

    @Test(arguments: ["PAUSE", "PAUSE shop", "KILL", "KILL shop"])
    func pausedAlready(query: String) async {
        let answer = await Answer.to(query, FakeHost { $0.state.isPaused = true })
        #expect(answer.error?.message == "already suspended/paused")
    }

    @Test func resume() async {
        let host = FakeHost { content in
            content.state.isPaused = true
            var shop = DatabaseStatus(settings: DatabaseSettings(name: "shop"))
            shop.isPaused = true
            content.databases = [shop]
        }
        #expect(await Answer.to("RESUME", host).tag == "RESUME")
        #expect(await Answer.to("RESUME shop", host).tag == "RESUME")
        #expect(await host.calls == ["resume all", "resume shop"])
    }

    @Test func resumeIsRefusedWhileShuttingDown() async {
        let host = FakeHost { $0.state = ProxyState(isPaused: true, shutdown: .waitForServers) }
        #expect(await Answer.to("RESUME", host).error?.message == "pooler is shutting down")
    }

    @Test func immediateShutdownStaysSilent() async {
        let host = FakeHost()
        #expect(await Answer.to("SHUTDOWN", host).types == "")
        #expect(await host.calls == ["shutdown immediate"])
    }

    @Test func cancelledPauseIsResumed() async {
        let host = FakeHost()
        let task = Task { await Answer.to("PAUSE slow", host) }
        while await host.calls.isEmpty { await Task.yield() }
        task.cancel()
        #expect(await task.value.error?.sqlState == "57014")
        #expect(await host.calls == ["pause slow", "resume slow"])
    }

    @Test func reloadTellsWhatChanged() async {
        let host = FakeHost { $0.reload = .success(["verbose changed from 0 to 1"]) }
        let answer = await Answer.to("RELOAD", host)
        #expect(answer.types == "NCZ")
        #expect(answer.notices.map(\.message) == ["verbose changed from 0 to 1"])
    }

    @Test func reloadWithErrors() async {
        let host = FakeHost { $0.reload = .failure(ReloadError(messages: ["m.ini:1: one", "m.ini:2: two"])) }
        let answer = await Answer.to("RELOAD", host)
        #expect(
            answer.error
                == .init(
                    severity: "ERROR", sqlState: "F0000", message: "RELOAD failed, see logs for additional details",
                    detail: "m.ini:1: one\nm.ini:2: two"))
    }

    // MARK: What drivers send unasked

    @Test(
        arguments: [
            ("SHOW client_encoding", "client_encoding", "UTF-8"),
            ("SHOW DateStyle", "datestyle", "ISO"),
            ("SELECT timezone", "timezone", "GMT"),
            ("SHOW default_transaction_isolation", "default_transaction_isolation", "read committed"),
        ])
    func fakeSettings(query: String, column: String, value: String) async {
        let answer = await Answer.to(query, as: .stats)
        #expect(answer.types == "TDCZ")
        #expect(answer.columns == [column])
        #expect(answer.rows == [[value]])
    }

    @Test(arguments: ["SET client_encoding = 'latin1'", "SET extra_float_digits TO 3", "set DateStyle='ISO'"])
    func fakeSettingsAreNotSet(query: String) async {
        let host = FakeHost()
        let answer = await Answer.to(query, as: .stats, host)
        #expect(answer.types == "NCZ")
        #expect(answer.tag == "SET")
        #expect(await host.calls.isEmpty)
    }

    @Test(arguments: ["", ";", "-- ping"]) func emptyQuery(query: String) async {
        #expect(await Answer.to(query).types == "IZ")
    }

    @Test func mistypedCommandsGetAHint() async {
        #expect(await Answer.to("SHWO POOLS").error?.hint == "Perhaps you meant \"SHOW\".")
        #expect(await Answer.to("SHOW POLS;").error?.hint == "Perhaps you meant \"SHOW POOLS\".")
        #expect(await Answer.to("SHOW POLS;").error?.message == "invalid command 'SHOW POLS;', use SHOW HELP;")
        #expect(await Answer.to("PAUSE; RESUME").error?.hint == "The console takes one command at a time.")
    }

    @Test func longQueriesAreCutInErrors() async {
        let answer = await Answer.to("SELECT " + String(repeating: "x", count: 1_000_000))
        #expect((answer.error?.message.utf8.count ?? 0) < 1000)
    }

    @Test func extendedProtocolIsRefused() {
        let console = Answer.console()
        let answer = Answer(console.extendedProtocolError)
        #expect(answer.types == "E")
        #expect(answer.error?.severity == "FATAL")
        #expect(answer.error?.message == "extended query protocol not supported by admin console")
    }

    @Test func welcome() {
        let console = Answer.console()
        let parameters = console.welcomeParameters.map { "\($0.name)=\($0.value)" }
        #expect(
            parameters == [
                "server_version=\(Version.number)/bouncer", "client_encoding=UTF8", "server_encoding=UTF8",
                "DateStyle=ISO", "TimeZone=GMT", "standard_conforming_strings=on", "is_superuser=on",
            ])
    }
}
