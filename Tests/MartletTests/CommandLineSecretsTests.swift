import Testing

@testable import martlet

@Suite struct CommandLineSecretsTests {
    @Test(
        "passwords of connection URLs are hidden, and nothing else",
        arguments: [
            ("postgresql://app:secret@db/shop", "postgresql://app:xxxxxx@db/shop"),
            ("postgres://app:secret@db:5432/shop?user=x", "postgres://app:xxxxxx@db:5432/shop?user=x"),
            ("postgresql://app:se%20:t@db", "postgresql://app:xxxxxxx@db"),
            ("postgresql://app:s/e?c@r@db/shop", "postgresql://app:xxxxxxx@db/shop"),
            ("postgresql://app:@db/shop", "postgresql://app:@db/shop"),
            ("postgresql://app@db:5432/shop", "postgresql://app@db:5432/shop"),
            ("postgresql://db:5432/shop", "postgresql://db:5432/shop"),
            ("postgresql://db/shop?password=secret", "postgresql://db/shop?password=xxxxxx"),
            ("postgresql://db?a=b&password=secret&c=d", "postgresql://db?a=b&password=xxxxxx&c=d"),
            ("postgresql://db?check_password=a&sslpassword=b", "postgresql://db?check_password=x&sslpassword=x"),
            ("/etc/martlet/martlet.ini", "/etc/martlet/martlet.ini"), ("a:b@c", "a:b@c"), ("", ""),
        ])
    func hidden(argument: String, expected: String) { #expect(CommandLineSecrets.hidden(argument) == expected) }
}
