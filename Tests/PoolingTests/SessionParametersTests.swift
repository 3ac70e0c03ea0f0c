import Glibc
import Testing
import Wire

@testable import Pooling

private func status(_ name: String, _ value: String) -> ParameterStatus {
    ParameterStatus(name: name, value: Array(value.utf8))
}

private func startup(_ name: String, _ value: String) -> StartupParameter {
    StartupParameter(name: name, value: value)
}

extension ParameterTable {
    /// The set of few enough reports.
    fileprivate func known(_ statuses: [ParameterStatus], in set: ParameterSet = .empty) -> ParameterSet {
        do {
            return try self.reported(statuses, in: set)
        } catch {
            Issue.record(error)
            return set
        }
    }

    /// A set in which one setting has another value.
    func setting(_ name: String, _ value: [UInt8], in set: ParameterSet) -> ParameterSet {
        self.known([ParameterStatus(name: name, value: value)], in: set)
    }
}

/// What a PostgreSQL 15 reports.
private let reported15 = [
    status("application_name", ""), status("client_encoding", "UTF8"), status("DateStyle", "ISO, DMY"),
    status("default_transaction_read_only", "off"), status("in_hot_standby", "off"), status("integer_datetimes", "on"),
    status("IntervalStyle", "postgres"), status("is_superuser", "off"), status("server_encoding", "UTF8"),
    status("server_version", "15.18"), status("session_authorization", "alice"),
    status("standard_conforming_strings", "on"), status("TimeZone", "Europe/Berlin"),
]

@Suite struct ParameterTableTests {
    let table = ParameterTable()

    @Test func sameSettingsAreOneObject() {
        let first = self.table.known(reported15)
        let second = self.table.known(reported15.reversed())
        #expect(first === second)
        let changed = self.table.setting("TimeZone", Array("UTC".utf8), in: first)
        #expect(changed !== first)
        let back = self.table.setting("timezone", Array("Europe/Berlin".utf8), in: changed)
        #expect(back["TimeZone"]?.value == first["TimeZone"]?.value)
        #expect(self.table.setting("TimeZone", Array("Europe/Berlin".utf8), in: changed) === first)
    }

    @Test func namesAreComparedWithoutCase() {
        let set = self.table.known(reported15)
        #expect(set["datestyle"]?.name == "DateStyle")
        #expect(set["DATESTYLE"]?.text == "ISO, DMY")
        #expect(set["nothing"] == nil)
        #expect(set.parameters.count == reported15.count)
        for status in reported15 { #expect(set[status.name]?.value == status.value) }
    }

    /// More than are remembered, each again and again, with two kinds of servers.
    @Test func clientsBeginWithWhatTheyAskFor() throws {
        let servers = [self.table.known(reported15), self.table.known(Array(reported15.dropLast()))]
        for round in 0..<3 {
            for number in 0..<40 {
                for server in servers {
                    let name = "application \(number / (round + 1))"
                    let set = try self.table.initial([startup("application_name", name)], defaults: server)
                    #expect(set["application_name"]?.text == name)
                    #expect(set["TimeZone"]?.text == server["TimeZone"]?.text)
                    #expect(try self.table.initial([startup("application_name", name)], defaults: server) === set)
                }
            }
        }
    }

    @Test func aGreetingTellsWhatServersReport() throws {
        let server = self.table.known([status("TimeZone", "UTC"), status("application_name", "")])
        let set = try self.table.initial(
            [startup("application_name", "a"), startup("search_path", "b")], defaults: server)
        let expected = MessageWriter.bytes {
            $0.parameterStatus(name: "application_name", value: Array("a".utf8))
            $0.parameterStatus(name: "TimeZone", value: Array("UTC".utf8))
        }
        #expect(set.statusMessages == expected)
    }

    /// What a client has set stays when a server has other values by itself; all else changes with it.
    @Test func serversHaveOtherValues() throws {
        let old = self.table.known(reported15)
        let new = self.table.known(
            [status("DateStyle", "German, DMY"), status("TimeZone", "Asia/Tokyo"), status("in_hot_standby", "on")],
            in: old)
        let start = try self.table.beginning(
            [startup("DateStyle", "ISO, DMY"), startup("search_path", "a")], defaults: old)
        let changed = self.table.setting("IntervalStyle", Array("iso_8601".utf8), in: start.settings)
        let after = self.table.rebased(changed, own: start.own, from: old, to: new)
        #expect(after["DateStyle"]?.text == "ISO, DMY" && after["search_path"]?.text == "a")
        #expect(after["IntervalStyle"]?.text == "iso_8601")
        #expect(after["TimeZone"]?.text == "Asia/Tokyo" && after["in_hot_standby"]?.text == "on")
        #expect(self.table.rebased(after, own: start.own, from: new, to: old) === changed)
        #expect(self.table.rebased(old, own: .empty, from: old, to: new) === new)
        #expect(self.table.taking(["timezone", "nosuch"], of: new, in: old)["TimeZone"]?.text == "Asia/Tokyo")
        #expect(self.table.taking(["server_version"], of: new, in: old) === old)
        #expect(new.takesNoWrites && !old.takesNoWrites)
    }

    @Test func setOfAnotherReactor() {
        let other = ParameterTable()
        let mine = self.table.known(reported15)
        let theirs = other.known(reported15)
        #expect(mine !== theirs)
        #expect(self.table.intern(theirs) === mine)
        #expect(mine.changes(from: theirs).isEmpty)
        let unknown = other.setting("TimeZone", [65], in: theirs)
        #expect(self.table.intern(unknown) === unknown)
        #expect(self.table.setting("TimeZone", [65], in: mine) === unknown)
    }

    @Test func setsNobodyHoldsAreSwept() {
        let set = self.table.known(reported15)
        for number in 0..<2000 {
            _ = self.table.setting("application_name", Array("app \(number)".utf8), in: set)
        }
        #expect(self.table.count <= 64)
        #expect(self.table.known(reported15) === set)
    }

    @Test func asManyReportsAsCanBeFollowed() throws {
        let most = (0..<ParameterSet.most).map { status("name\($0)", "x") }
        let set = try self.table.reported(most)
        #expect(set.parameters.count == ParameterSet.most)
        #expect(try self.table.reported([status("name7", "y")], in: set)["name7"]?.text == "y")
        #expect(throws: ParameterError.tooMany) { try self.table.reported([status("one_more", "x")], in: set) }
        #expect(throws: ParameterError.tooMany) { try self.table.reported(most + [status("one_more", "x")]) }
        let long = String(repeating: "x", count: 300_000)
        #expect(throws: ParameterError.tooMany) { try self.table.reported([status("long", long)]) }
    }

    /// Extras of a client do not count as reports.
    @Test func asManySettingsAsAClientMayBeginWith() throws {
        let server = self.table.known((0..<ParameterSet.most).map { status("reported\($0)", "x") })
        let most = (0..<ParameterSet.most).map { startup("a.x\($0)", "\($0)") }
        let client = try self.table.initial(most, defaults: server)
        #expect(client["a.x255"]?.text == "255" && client.parameters.count == 2 * ParameterSet.most)
        #expect(throws: ParameterError.tooMany) {
            try self.table.initial(most + [startup("a.x0", "again")], defaults: server)
        }
        let after = self.table.applied(client.changes(from: server), client: client, server: server)
        #expect(after.client === client && after.server === client)
        #expect(self.table.setting("reported1", [65], in: after.server)["reported1"]?.text == "A")
        let back = self.table.applied(server.changes(from: client), client: server, server: client)
        #expect(back.server === server)
    }

    /// Reports are taken over when somebody looks, in their order, however many there are.
    @Test func reportsAreFollowed() throws {
        var followed = FollowedParameters(self.table.known(reported15))
        for number in 0..<1000 {
            try followed.note(status("name\(number % 100)", String(number)), self.table)
            if number % 77 == 0 {
                #expect(followed.current(self.table)["NAME\(number % 100)"]?.text == String(number))
            }
        }
        let set = followed.current(self.table)
        #expect(set["name7"]?.text == "907" && set["TimeZone"]?.text == "Europe/Berlin")
        #expect(followed.current(self.table) === set)
        #expect(throws: ParameterError.tooMany) {
            for number in 0..<1000 { try followed.note(status("other\(number)", ""), self.table) }
        }
    }

    /// The work that sets take grows with their number, and not with its square. In this thread's own time: what else the
    /// machine does is not counted.
    @Test func manySettingsCostWhatTheyAre() throws {
        func now() -> Int {
            var time = timespec()
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
            return time.tv_sec * 1_000_000_000 + time.tv_nsec
        }
        func work(_ count: Int) throws -> Int {
            try (0..<7).map { round in
                let parameters = (0..<count).map { startup("r\(round).x\($0)", "\($0)") }
                let start = now()
                _ = try self.table.initial(parameters, defaults: .empty)
                return now() - start
            }.min() ?? 0
        }
        let (few, many) = (try work(32), try work(256))
        #expect(many < few * 32, "\(few) ns for 32, \(many) ns for 256")
    }

    @Test func lastStatusOfANameHolds() {
        let set = self.table.known([status("TimeZone", "a"), status("timezone", "b")])
        #expect(set.parameters.count == 1 && set["TimeZone"]?.text == "b")
    }
}

@Suite struct InitialParametersTests {
    let table = ParameterTable()

    private func initial(_ parameters: StartupParameter...) throws -> ParameterSet {
        try self.table.initial(parameters, defaults: self.table.known(reported15))
    }

    @Test func withoutParametersItIsTheServersSet() throws {
        #expect(try self.initial() === self.table.known(reported15))
    }

    @Test(
        arguments: [
            ("client_encoding", "utf-8", "UTF8"), ("client_encoding", "Unicode", "UTF8"),
            ("CLIENT_ENCODING", "'UTF8'", "UTF8"), ("client_encoding", "iso-8859-1", "LATIN1"),
            ("client_encoding", "ISO_8859_15", "LATIN9"), ("client_encoding", "windows-1252", "WIN1252"),
            ("client_encoding", "sqlascii", "SQL_ASCII"), ("client_encoding", "Shift_JIS", "SJIS"),
            ("client_encoding", "windows949", "UHC"), ("client_encoding", "koi8", "KOI8R"),
            ("client_encoding", "iso88595", "ISO_8859_5"), ("client_encoding", "euc-jis-2004", "EUC_JIS_2004"),
            ("DateStyle", "ISO", "ISO, DMY"), ("datestyle", "mdy", "ISO, MDY"), ("DateStyle", "SQL, US", "SQL, MDY"),
            ("DateStyle", "German", "German, DMY"), ("DateStyle", " ymd , iso ", "ISO, YMD"),
            ("DateStyle", "ymd iso", "ymd iso"),
            ("DateStyle", "postgresql,european", "Postgres, DMY"), ("DateStyle", "iso, sql", "iso, sql"),
            ("DateStyle", "iso,,mdy", "iso,,mdy"), ("DateStyle", "default", "default"), ("DateStyle", "", "ISO, DMY"),
            ("standard_conforming_strings", "TRUE", "on"), ("standard_conforming_strings", "f", "off"),
            ("default_transaction_read_only", "1", "on"), ("IntervalStyle", "ISO_8601", "iso_8601"),
            ("TimeZone", "utc", "utc"), ("application_name", "", ""), ("application_name", "psql", "psql"),
        ] as [(String, String, String)])
    func canonicalForm(name: String, value: String, expected: String) throws {
        let set = try self.initial(startup(name, value))
        #expect(set[name]?.text == expected)
        #expect(set[name]?.isReported == true)
    }

    /// In some a byte that looks like ASCII may be part of a character.
    @Test(
        arguments: [
            ("utf-8", .utf8), ("unicode", .utf8), ("latin1", .ascii), ("SQL_ASCII", .ascii), ("EUC_JP", .ascii),
            ("SJIS", .mixed), ("windows-950", .mixed), ("gb18030", .mixed), ("GBK", .mixed), ("koi8", .ascii),
        ] as [(String, ClientEncoding)])
    func encodings(name: String, expected: ClientEncoding) throws {
        #expect(try self.initial(startup("client_encoding", name)).encoding == expected)
    }

    @Test func settingThatIsNotReported() throws {
        let set = try self.initial(startup("extra_float_digits", "3"), startup("Search_Path", "a, b"))
        #expect(set["extra_float_digits"]?.isReported == false)
        #expect(set["search_path"]?.name == "Search_Path")
    }

    @Test func partsOfADateStyleAddUp() throws {
        let set = try self.initial(startup("DateStyle", "sql"), startup("datestyle", "ymd"))
        #expect(set["DateStyle"]?.text == "SQL, YMD")
    }

    @Test func lastOneHolds() throws {
        let set = try self.initial(startup("TimeZone", "UTC"), startup("timezone", "GMT"))
        #expect(set["TimeZone"]?.text == "GMT" && set["TimeZone"]?.name == "TimeZone")
    }

    @Test(
        arguments: [
            ("", "x", .unknown(name: "")), ("a b", "x", .unknown(name: "a b")), ("a'", "x", .unknown(name: "a'")),
            ("1a", "x", .unknown(name: "1a")), ("a..b", "x", .unknown(name: "a..b")), (".", "x", .unknown(name: ".")),
            ("é", "x", .unknown(name: "é")), ("a.1", "x", .unknown(name: "a.1")),
            ("server_version", "9", .readOnly(name: "server_version")),
            ("IS_SUPERUSER", "on", .readOnly(name: "IS_SUPERUSER")),
            ("session_authorization", "postgres", .readOnly(name: "session_authorization")),
            ("client_encoding", "klingon", .invalidValue(name: "client_encoding", value: "klingon")),
            ("client_encoding", "", .invalidValue(name: "client_encoding", value: "")),
            (
                "standard_conforming_strings", "o",
                .invalidValue(name: "standard_conforming_strings", value: "o")
            ),
        ] as [(String, String, ParameterError)])
    func refused(name: String, value: String, error: ParameterError) {
        #expect(throws: error) { try self.initial(startup(name, value)) }
        #expect(!error.message.isEmpty && error.sqlState.utf8.count == 5)
    }

    @Test func names() {
        #expect(ParameterNames.isValid("my_app.tenant$1"))
        #expect(ParameterNames.isValid(String(repeating: "a", count: 127)))
        #expect(!ParameterNames.isValid(String(repeating: "a", count: 128)))
    }
}

@Suite struct ParameterChangeTests {
    let table = ParameterTable()

    private func server(_ changes: (String, String)...) -> ParameterSet {
        changes.reduce(self.table.known(reported15)) { set, change in
            self.table.setting(change.0, Array(change.1.utf8), in: set)
        }
    }

    private func statement(_ client: ParameterSet, _ server: ParameterSet) -> String {
        ParameterChange.statement(client.changes(from: server), client: client)
    }

    @Test func onlyDifferencesAreSet() {
        let client = self.server(("TimeZone", "UTC"))
        #expect(
            self.statement(client, self.server(("application_name", "other")))
                == "SET \"application_name\" = '';SET \"TimeZone\" = 'UTC'")
        #expect(client.changes(from: client).isEmpty)
    }

    @Test func whatNobodyCanSetMakesNoDifference() {
        let replica = self.server(
            ("in_hot_standby", "on"), ("server_version", "16.1"), ("is_superuser", "on"), ("server_encoding", "LATIN1"),
            ("session_authorization", "bob"), ("integer_datetimes", "off"))
        #expect(self.server().changes(from: replica).isEmpty)
    }

    @Test func extraSettingsAreSetAndTakenBack() throws {
        let base = self.server()
        let first = try self.table.initial(
            [startup("search_path", "\"$user\", it's"), startup("my.App", "1")], defaults: base)
        #expect(
            self.statement(first, base)
                == "SET \"my\".\"App\" = '1'"
                + ";SELECT pg_catalog.set_config('search_path', '\"$user\", it''s', false)")
        let second = try self.table.initial([startup("extra_float_digits", "3")], defaults: base)
        let used = self.table.applied(first.changes(from: base), client: first, server: base).server
        #expect(used["search_path"]?.isReported == false)
        #expect(
            self.statement(second, used)
                == "SET \"extra_float_digits\" = '3';RESET \"my\".\"App\";RESET \"search_path\"")
        let after = self.table.applied(second.changes(from: used), client: second, server: used)
        #expect(after.server === second && after.client === second)
        #expect(self.table.withoutExtras(after.server) === base)
        #expect(self.table.withoutExtras(base) === base)
    }

    @Test func serversFormBecomesTheClients() throws {
        let base = self.server()
        let client = try self.table.initial([startup("TimeZone", "utc")], defaults: base)
        let changes = client.changes(from: base)
        #expect(self.statement(client, base) == "SET \"TimeZone\" = 'utc'")
        let after = self.table.applied(changes, client: client, server: self.server(("TimeZone", "UTC")))
        #expect(after.client === after.server)
        #expect(after.client["TimeZone"]?.text == "UTC")
    }

    /// A server on 18 reports search_path, one on 15 does not: there it is noted as an extra setting.
    @Test func reportedByOneServerAndNotByAnother() {
        let client = self.table.setting("search_path", Array("a".utf8), in: self.server())
        let changes = client.changes(from: self.server())
        #expect(changes.count == 1)
        let after = self.table.applied(changes, client: client, server: self.server())
        #expect(after.client === after.server)
        #expect(self.server().changes(from: client).isEmpty)
        let iterations = self.table.setting("scram_iterations", Array("4096".utf8), in: self.server())
        #expect(iterations.changes(from: self.server()).isEmpty)
    }

    @Test func differencesAtBothEnds() throws {
        let base = self.table.known([status("m", "1")])
        let client = try self.table.initial([startup("a", "1"), startup("z", "1")], defaults: base)
        let other = try self.table.initial([startup("b", "1"), startup("y", "1")], defaults: base)
        #expect(self.statement(base, other) == "RESET \"b\";RESET \"y\"")
        #expect(client.changes(from: other).count == 4)
        #expect(client.changes(from: .empty).count == 3)
        #expect(ParameterSet.empty.changes(from: client).count == 2)
    }

    @Test(
        arguments: [
            ("", "''"), ("a", "'a'"), ("it's", "'it''s'"), ("\\", "E'\\\\'"), ("a\\'b", "E'a\\\\''b'"),
            ("'; DROP TABLE x; --", "'''; DROP TABLE x; --'"), ("$user", "'$user'"), ("a\r\n", "'a\r\n'"),
            ("\r\n'", "'\r\n'''"), ("'\u{301}", "''\u{301}"),
        ] as [(String, String)])
    func literal(text: String, expected: String) {
        let literal = ParameterChange.literal(text)
        if text.unicodeScalars.allSatisfy(\.isASCII) { #expect(literal == expected) }
        // Inside of the outer quotes every quote is doubled.
        let quotes = literal.unicodeScalars.count { $0 == "'" }
        #expect(quotes == 2 + 2 * text.unicodeScalars.count { $0 == "'" })
    }

    @Test func literalHasNoLimit() {
        let text = String(repeating: "'", count: 100_000)
        #expect(ParameterChange.literal(text).utf8.count == 200_002)
    }

    @Test func valueThatIsNotASCIIIsConvertedByTheServer() {
        // In SJIS the second byte of this character is a backslash.
        let sjis = self.table.setting("client_encoding", Array("SJIS".utf8), in: self.server())
        let client = self.table.setting("application_name", [0x95, 0x5C], in: sjis)
        #expect(
            self.statement(client, self.server())
                == "SELECT pg_catalog.set_config('application_name', "
                + "pg_catalog.convert_from(pg_catalog.decode('955c', 'hex'), 'SJIS'), false)"
                + ";SET \"client_encoding\" = 'SJIS'")
    }

    /// What PostgreSQL makes of a list of names must be what the client has written.
    @Test(
        arguments: [
            ("a", "SET \"search_path\" = 'a'"), ("\"$user\", public", "SET \"search_path\" = '$user', 'public'"),
            ("a, b_2", "SET \"search_path\" = 'a', 'b_2'"), ("", nil), ("a,b", nil), ("A", nil), ("a, ", nil),
            (" a", nil),
            ("\"a\"", nil), ("$user", nil), ("1a", nil), ("a;b", nil), ("it's", nil),
        ] as [(String, String?)])
    func listsOfNames(text: String, expected: String?) throws {
        let client = try self.table.initial([startup("search_path", text)], defaults: self.server())
        let statement = self.statement(client, self.server())
        #expect(statement == expected ?? statement)
        #expect(statement.hasPrefix("SELECT pg_catalog.set_config('search_path', ") == (expected == nil))
    }

    @Test func encodingIsUTF8WhenItIsNotKnown() throws {
        let client = try self.table.initial([startup("x", "é")], defaults: .empty)
        #expect(self.statement(client, .empty).contains("decode('c3a9', 'hex'), 'UTF8')"))
    }
}
