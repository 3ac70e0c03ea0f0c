import ArgumentParser
import Glibc
import Settings
import Testing

@testable import martlet

@Suite struct PidFileTests {
    @Test func isCreatedAndRemoved() throws {
        let directory = try TemporaryDirectory()
        let file = PidFile(path: directory.file("martlet.pid"))
        try file.create()
        #expect(TextFile.read(file.path, limit: 100) == "\(getpid())\n")
        file.remove()
        #expect(access(file.path, F_OK) != 0)
    }

    /// Number 1 lives, but is no pooler; the largest number never does.
    @Test(arguments: ["4194305\n", "1\n", "", "rubbish", "-5", "0", "99999999999999999999"])
    func leftBehindFileIsReplaced(content: String) throws {
        let directory = try TemporaryDirectory()
        let file = PidFile(path: directory.file("martlet.pid"))
        try Self.write(content, to: file.path)
        #expect(file.runningProcess() == nil)
        try file.create()
        #expect(TextFile.read(file.path, limit: 100) == "\(getpid())\n")
    }

    @Test func restartedContainerHasTheSameNumberAgain() throws {
        let directory = try TemporaryDirectory()
        let file = PidFile(path: directory.file("martlet.pid"))
        try file.create()
        try file.create()
    }

    @Test func somebodyElsesFileStays() throws {
        let directory = try TemporaryDirectory()
        let file = PidFile(path: directory.file("martlet.pid"))
        try Self.write("1\n", to: file.path)
        file.remove()
        #expect(TextFile.read(file.path, limit: 100) == "1\n")
    }

    @Test func directoryIsMissing() throws {
        let directory = try TemporaryDirectory()
        #expect(throws: LaunchError.self) { try PidFile(path: directory.file("missing/martlet.pid")).create() }
    }

    private static func write(_ text: String, to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
        defer { close(descriptor) }
        #expect(Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count)
    }
}

@Suite struct ServiceManagerTests {
    @Test(
        arguments: [
            (["LISTEN_PID": "7", "LISTEN_FDS": "2"], [3, 4]),
            (["LISTEN_PID": "8", "LISTEN_FDS": "2"], []),
            (["LISTEN_FDS": "2"], []),
            (["LISTEN_PID": "7"], []),
            (["LISTEN_PID": "7", "LISTEN_FDS": "-1"], []),
            (["LISTEN_PID": "7", "LISTEN_FDS": "1000000"], []),
            (["LISTEN_PID": "7", "LISTEN_FDS": "two"], []),
            ([:], []),
        ] as [([String: String], [Int32])])
    func listeningSockets(environment: [String: String], sockets: [Int32]) {
        let service = ServiceManager(environment: { environment[$0] }, processID: 7)
        #expect(service.listeningSockets == sockets)
    }

    @Test(arguments: [false, true]) func messagesArriveAsDatagrams(abstract: Bool) throws {
        let directory = try TemporaryDirectory()
        let name = abstract ? "@martlet-test-\(getpid())" : directory.file("notify")
        let receiver = try Self.socket(bound: name)
        defer { close(receiver) }
        let service = ServiceManager(environment: { $0 == "NOTIFY_SOCKET" ? name : nil }, processID: 7)
        service.ready(status: "Accepting connections")
        #expect(Self.receive(receiver) == "READY=1\nSTATUS=Accepting connections")
        service.reloading()
        let reloading = Self.receive(receiver)
        #expect(reloading.hasPrefix("RELOADING=1\nMONOTONIC_USEC="))
        #expect((reloading.split(separator: "=").last.flatMap { UInt64($0) } ?? 0) > 0)
        service.stopping(status: "Bye")
        #expect(Self.receive(receiver) == "STOPPING=1\nSTATUS=Bye")
    }

    @Test(arguments: ["", "relative", "/", "@", "/" + String(repeating: "x", count: 200), "/nowhere/at/all"])
    func nobodyListens(name: String) {
        ServiceManager(environment: { $0 == "NOTIFY_SOCKET" ? name : nil }, processID: 7).ready(status: "x")
    }

    private static func socket(bound name: String) throws -> Int32 {
        let address = try #require(UnixAddress(name))
        let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        address.withSockaddr { sockaddr, length in
            #expect(bind(descriptor, sockaddr, length) == 0)
        }
        return descriptor
    }

    private static func receive(_ descriptor: Int32) -> String {
        var buffer = [UInt8](repeating: 0, count: 500)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }
}

@Suite struct FileLimitTests {
    private static func settings(_ change: (inout Settings) -> Void) -> Settings {
        var settings = Settings()
        settings.general.maxClientConn = 1000
        settings.databases["shop"] = DatabaseSettings(name: "shop")
        change(&settings)
        return settings
    }

    @Test(
        arguments: [
            (Self.settings { _ in }, 20),
            (Self.settings { $0.databases = [:] }, 0),
            (Self.settings { $0.databases["b"] = DatabaseSettings(name: "b") }, 40),
            (Self.settings { $0.databases["shop"]?.poolSize = 5 }, 5),
            (Self.settings { $0.general.reservePoolSize = 3 }, 23),
            (Self.settings { $0.general.maxDbConnections = 8 }, 8),
            (Self.settings { $0.general.defaultPoolSize = 0 }, 1000),
            (Self.settings { $0.users = ["a": UserSettings(name: "a"), "b": UserSettings(name: "b")] }, 40),
            (Self.settings { $0.databases["shop"]?.poolSize = Int(Int32.max) }, 4000),
        ])
    func serverConnections(settings: Settings, servers: Int) {
        let limit = FileLimit(settings)
        #expect(limit.servers == servers)
        #expect(limit.needed == 1000 + servers + FileLimit.reserve)
    }

    @Test func warning() throws {
        let limit = FileLimit(Self.settings { _ in })
        #expect(limit.warning(allowed: limit.needed) == nil)
        let warning = try #require(limit.warning(allowed: 1024))
        #expect(warning.contains("1024") && warning.contains("max_client_conn = 1000") && warning.contains("1084"))
    }
}

@Suite struct PrivilegesTests {
    @Test func rootNeedsAnotherUser() {
        #expect(throws: LaunchError.self) { try Privileges.toTake(name: "", effectiveUser: 0) }
        #expect(throws: LaunchError.self) { try Privileges.toTake(name: "root", effectiveUser: 0) }
        #expect(throws: LaunchError.self) { try Privileges.toTake(name: "no such user", effectiveUser: 0) }
    }

    @Test func rootMayBecomeAnybody() throws {
        let privileges = try #require(try Privileges.toTake(name: "nobody", effectiveUser: 0))
        #expect(privileges.user != 0)
    }

    @Test func anybodyMayStayWhoTheyAre() throws {
        #expect(try Privileges.toTake(name: "", effectiveUser: 1000) == nil)
        let nobody = try #require(getpwnam("nobody")).pointee.pw_uid
        #expect(try Privileges.toTake(name: "nobody", effectiveUser: nobody) == nil)
    }

    @Test func onlyRootMayBecomeSomebodyElse() {
        #expect(throws: LaunchError("only root can change to user nobody")) {
            try Privileges.toTake(name: "nobody", effectiveUser: 1000)
        }
    }
}

@Suite struct ConfigurationSourceTests {
    @Test func missingAuthFileIsAnError() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("martlet.ini")
        let authFile = directory.file("missing.txt")
        let text = "[databases]\nshop = host=pg\n[martlet]\nauth_type = md5\nauth_file = \(authFile)\n"
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
        #expect(write(descriptor, text, text.utf8.count) == text.utf8.count)
        close(descriptor)
        let (configuration, diagnostics) = ConfigurationSource.file(path).loadAll()
        #expect(configuration == nil)
        #expect(diagnostics.contains { $0.severity == .error && $0.description.contains(authFile) })
    }

    @Test(
        arguments: [
            ("martlet.ini", .file("martlet.ini")),
            ("/etc/pgbouncer/pgbouncer.ini", .file("/etc/pgbouncer/pgbouncer.ini")),
            ("postgresql://host/db", .url("postgresql://host/db")),
            ("postgres://", .url("postgres://")),
        ] as [(String, ConfigurationSource)])
    func source(argument: String, source: ConfigurationSource) {
        #expect(ConfigurationSource(argument) == source)
    }

    @Test func missingFileIsAnError() {
        let (configuration, diagnostics) = ConfigurationSource("/nowhere/martlet.ini").loadAll()
        #expect(configuration == nil)
        #expect(diagnostics.contains { $0.description.contains("No such file or directory") })
    }

    @Test func endlessFileIsAnError() {
        guard case .failure(let error) = SystemFile.read("/dev/zero") else {
            Issue.record("read to its end")
            return
        }
        #expect(error.reason == "file is too large")
    }

    @Test func sourceIsNeeded() throws {
        #expect(throws: ValidationError.self) { try Martlet.parse([]).run() }
    }

    @Test(
        arguments: [
            (["m.ini"], nil),
            (["-d", "-q", "-vv", "-u", "postgres", "m.ini"], nil),
            (["--check", "m.ini"], nil),
            (["-V"], nil),
            (["--version"], nil),
            (["--unknown"], "--unknown"),
            (["m.ini", "n.ini"], "n.ini"),
            (["--unknown", "m.ini"], "--unknown"),
        ] as [([String], String?)])
    func commandLine(arguments: [String], complaint: String?) throws {
        do {
            let command = try Martlet.parse(arguments)
            #expect(complaint == nil)
            #expect(command.verbose == (arguments.contains("-vv") ? 2 : 0))
        } catch {
            let complaint = try #require(complaint, "\(error)")
            #expect(Martlet.message(for: error).contains(complaint))
        }
    }
}
