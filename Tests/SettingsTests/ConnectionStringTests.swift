import Testing

@testable import Settings

@Suite struct ConnectionStringTests {
    private func pairs(_ assignments: [Assignment]) -> [String] {
        assignments.map { "\($0.key)|\($0.value)" }
    }

    @Test(arguments: [
        ("", []),
        ("  \t ", []),
        ("host=a", ["host|a"]),
        ("  host = a   port=\t5 ", ["host|a", "port|5"]),
        ("password='two words' user=x", ["password|two words", "user|x"]),
        ("password='it''s'", ["password|it's"]),
        (#"password='it\'s' user=x"#, ["password|it's", "user|x"]),
        (#"password='a\b\\c'"#, [#"password|a\b\\c"#]),
        (#"password='ends with \' user=x"#, [#"password|ends with \"#, "user|x"]),
        (#"password='ends with \'"#, [#"password|ends with \"#]),
        (#"password='a\'' b' user=x"#, [#"password|a\' b"#, "user|x"]),
        (#"password=a\b'c"#, [#"password|a\b'c"#]),
        ("password=''", ["password|"]),
        ("password='=' user=x=y", ["password|=", "user|x=y"]),
        ("connect_query='SELECT ''é'' ' user=ü", ["connect_query|SELECT 'é' ", "user|ü"]),
    ])
    func keywords(text: String, expected: [String]) throws {
        #expect(self.pairs(try ConnectionString.parse(text)) == expected)
    }

    @Test(arguments: [
        ("host", #"lacks a "=" in its first word; a value with blanks needs single quotes"#),
        (
            "password=very secret",
            #"lacks a "=" behind the value of "password"; a value with blanks needs single quotes"#
        ),
        ("=x", #"lacks a key before a "=""#),
        ("host=", #"lacks the value of "host""#),
        ("password='secret", #"lacks the closing quote of the value of "password""#),
        ("password='it's secret'", #"has text directly behind the quoted value of "password""#),
    ])
    func badKeywords(text: String, reason: String) {
        #expect(throws: InvalidValue(reason)) { try ConnectionString.parse(text) }
        #expect(!reason.contains("secret"))
    }

    @Test(arguments: ["plain", "two words", "it's", "'", "", #"\"#, #"a \' b"#, "=", "tab\there"])
    func whatIsPrintedIsReadAgain(value: String) throws {
        let assignment = Assignment(key: "password", value: value)
        #expect(try ConnectionString.parse(ConnectionString.print(assignment)) == [assignment])
    }

    @Test(arguments: [
        ("postgresql://", []),
        ("postgresql://localhost", ["host|localhost"]),
        ("postgres://localhost:5433/mydb", ["host|localhost", "port|5433", "dbname|mydb"]),
        ("postgresql://user@localhost", ["user|user", "host|localhost"]),
        (
            "postgresql://user:secret@localhost/db?application_name=x",
            ["user|user", "password|secret", "host|localhost", "dbname|db", "application_name|x"]
        ),
        ("postgresql://a:1,b:2/db", ["host|a,b", "port|1,2", "dbname|db"]),
        ("postgresql://a,b:2/db", ["host|a,b", "port|,2", "dbname|db"]),
        ("postgresql://[2001:db8::1]:99/db", ["host|2001:db8::1", "port|99", "dbname|db"]),
        ("postgresql://[::1]/db", ["host|::1", "dbname|db"]),
        ("postgresql://%2Fvar%2Frun/db", ["host|/var/run", "dbname|db"]),
        ("postgresql:///db?host=/tmp&port=1", ["dbname|db", "host|/tmp", "port|1"]),
        ("postgresql://u:p%40ss%3A%2F@h/d%20b", ["user|u", "password|p@ss:/", "host|h", "dbname|d b"]),
        ("postgresql://u:p@ss@h/db", ["user|u", "password|p@ss", "host|h", "dbname|db"]),
        ("postgresql://h?dbname=x", ["host|h", "dbname|x"]),
        ("postgresql://h/db?connect_query=SELECT%201", ["host|h", "dbname|db", "connect_query|SELECT 1"]),
        ("postgresql://:5433/db", ["port|5433", "dbname|db"]),
    ])
    func urls(text: String, expected: [String]) throws {
        #expect(self.pairs(try ConnectionURL.parse(text)) == expected)
    }

    @Test(arguments: [
        "postgresql://h/%", "postgresql://h/%4", "postgresql://h/%zz", "postgresql://h/%00", "postgresql://h/%ff",
        "postgresql://h/d b", "postgresql://[::1/db", "postgresql://[::1]x/db", "postgresql://h?x", "postgresql://h?=x",
        "mysql://h", "postgresql://u:se/cret@h/db", "postgresql://u:se?cret@h/db", "postgresql://h:x",
    ])
    func badURLs(text: String) {
        let error = #expect(throws: InvalidValue.self) { try ConnectionURL.parse(text) }
        #expect(error?.reason.contains("\"se") == false)
    }

    @Test(arguments: [
        ("", ["/tmp/.s.PGSQL.5432"]),
        ("port=5433", ["/tmp/.s.PGSQL.5433"]),
        ("host=/var/run/postgresql", ["/var/run/postgresql/.s.PGSQL.5432"]),
        ("host=@abstract port=1", ["@abstract/.s.PGSQL.1"]),
        ("host=pg1", ["pg1:5432"]),
        ("host=::1 port=5433", ["[::1]:5433"]),
        ("host=a,b", ["a:5432", "b:5432"]),
        ("port=1,2 host=a,b", ["a:1", "b:2"]),
        ("host=a,b port=7", ["a:7", "b:7"]),
        ("host='a, b' port=,7", ["a:5432", "b:7"]),
        ("postgresql://a:1,b:2/x", ["a:1", "b:2"]),
    ])
    func hosts(text: String, expected: [String]) {
        #expect(database(text)?.hosts.map(\.description) == expected)
    }

    @Test(arguments: [
        ("host=a port=0", #"martlet.ini:2: database "shop": port must be from 1 to 65535, not 0"#),
        ("host=a port=x", #"martlet.ini:2: database "shop": port must be a whole number, not "x""#),
        ("host=a,b,c port=1,2", #"martlet.ini:2: database "shop": port lists 2 ports for 3 hosts"#),
        ("host=a,,b", #"martlet.ini:2: database "shop": host has an empty name in its list"#),
        ("host= port=1", #"martlet.ini:2: database "shop": host is not a host name: "port=1""#),
        (
            "host=/\(String(repeating: "d", count: 100))",
            #"martlet.ini:2: database "shop": host is too long a path for a Unix socket: "#
                + "\"/\(String(repeating: "d", count: 79))…\""
        ),
        (
            "sslmode=on",
            #"martlet.ini:2: database "shop": sslmode must be one of disable, allow, prefer, require, verify-ca, "#
                + #"verify-full, not "on""#
        ),
        ("pool_siz=5", #"martlet.ini:2: unknown key "pool_siz" of database "shop"; did you mean "pool_size"?"#),
        (
            "host=a,b,c weights=1,2",
            #"martlet.ini:2: database "shop": weights lists 2 numbers for 3 hosts: it takes one for each, in their order"#
        ),
        (
            "password='x",
            #"martlet.ini:2: the connection string of database "shop" lacks the closing quote of the value"#
                + #" of "password""#
        ),
    ])
    func badDatabases(text: String, expected: String) {
        #expect(errors("[databases]\nshop = \(text)") == [expected])
    }
}
