import Authentication

extension FuzzTarget {
    /// The file of users and their secrets.
    static let passwords = FuzzTarget(name: "passwords") { bytes in
        let (secrets, errors, doubts) = PasswordFile.parse(bytes.span, file: "userlist")
        for line in errors + doubts {
            try expect(line.hasPrefix("userlist:"), "a diagnostic without its place: \(line)")
            try expect(!line.contains("\n"), "a diagnostic of two lines: \(line.debugDescription)")
        }
        try expect(!secrets.keys.contains(""), "a user without name")
        // A bad line does not hide others: alone each says what it says among them.
        var alone: [String: Secret] = [:]
        let withoutMark = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? bytes.dropFirst(3) : bytes[...]
        for line in withoutMark.split(separator: UInt8(ascii: "\n")) {
            // Not at the beginning, where the mark of UTF-8 is none of the line.
            let text = [0x0A] + line
            alone.merge(PasswordFile.parse(text.span, file: "userlist").secrets) { $1 }
        }
        try expect(alone == secrets, "lines by themselves have other secrets")
        try checkAgain(secrets)
    }

    /// Written again the users are the same, and only the right password matches.
    private static func checkAgain(_ secrets: [String: Secret]) throws {
        for (user, secret) in secrets {
            guard case .plain(let password) = secret else { continue }
            var written: [UInt8] = []
            for value in [Array(user.utf8), bytes(of: password)] {
                written.append(UInt8(ascii: "\""))
                for byte in value { written += byte == UInt8(ascii: "\"") ? [byte, byte] : [byte] }
                written += Array("\" ".utf8)
            }
            let again = PasswordFile.parse(written.span, file: "userlist").secrets
            try expect(again == [user: secret], "user \(user.debugDescription) written again is another")
            let own = try secret.check(password: password.span, user: Array(user.utf8).span)
            try expect(own == .matches(!password.isEmpty), "the own password: \(own)")
            let longer = bytes(of: password) + [0x20]
            let other = try secret.check(password: longer.span, user: Array(user.utf8).span)
            try expect(other == .matches(false), "another password: \(other)")
        }
    }

    private static func bytes(of secret: SecretBytes) -> [UInt8] {
        let span = secret.span
        return span.indices.map { span[$0] }
    }
}
