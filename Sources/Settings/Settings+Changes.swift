/// One difference between two configurations, for the log of a reload.
public struct SettingChange: Sendable, Equatable, CustomStringConvertible {
    /// `pgbouncer`, `databases`, `users` or `peers`.
    public var section: String
    /// The name of the database, user or peer; nil in [pgbouncer].
    public var entry: String?
    /// The key; nil when the whole entry was added or removed.
    public var key: String?
    /// The value before, or the added entry's nil. Never a password.
    public var old: String?
    /// The value after, or the removed entry's nil. Never a password.
    public var new: String?
    /// False when the change waits for a restart.
    public var isReloadable = true
    /// True for passwords, whose values are not told.
    public var isSecret = false

    /// `pool_mode changed from session to transaction`, `database "shop" added`.
    public var description: String {
        let kind = ["databases": "database", "users": "user", "peers": "peer"][self.section] ?? self.section
        let subject = self.entry.map { "\(kind) \(quoted($0))" }
        guard let key = self.key else {
            return "\(subject ?? kind) \(self.old == nil ? "added" : "removed")"
        }
        var text = subject.map { "\($0): \(key)" } ?? key
        text += self.isSecret ? " changed" : " changed from \(self.old ?? "unset") to \(self.new ?? "unset")"
        return self.isReloadable ? text : text + "; it needs a restart"
    }
}

extension Settings {
    /// All differences, the general ones first, then by name.
    public static func changes(from old: Settings, to new: Settings) -> [SettingChange] {
        var changes = Self.differences(
            GeneralSettings.keys, old.general, new.general, in: "pgbouncer", entry: nil)
        var oldDatabases = old.databases
        var newDatabases = new.databases
        oldDatabases["*"] = old.fallbackDatabase
        newDatabases["*"] = new.fallbackDatabase
        changes += Self.differences(DatabaseSettings.keys, oldDatabases, newDatabases, in: "databases")
        changes += Self.differences(UserSettings.keys, old.users, new.users, in: "users")
        changes += Self.differences(PeerSettings.keys, old.peers, new.peers, in: "peers")
        return changes
    }

    /// What to run with after a reload: `new`, but with the old values of what only a restart can change.
    ///
    /// The changes tell also of those that had to wait (`isReloadable` is false).
    public static func reload(from old: Settings, to new: Settings) -> (settings: Settings, changes: [SettingChange]) {
        var merged = new
        for key in GeneralSettings.keys where !key.isReloadable {
            // What an old value prints it also parses, so this cannot fail; nil is the default and prints nothing.
            try? key.parse(key.print(old.general) ?? "", &merged.general)
        }
        return (merged, Self.changes(from: old, to: new))
    }

    private static func differences<Root, Name: Hashable & Comparable>(
        _ keys: [SettingKey<Root>], _ old: [Name: Root], _ new: [Name: Root], in section: String
    ) -> [SettingChange] {
        Set(old.keys).union(new.keys).sorted().flatMap { name in
            switch (old[name], new[name]) {
            case (let before?, let after?):
                self.differences(keys, before, after, in: section, entry: "\(name)")
            case (let before, _):
                [
                    SettingChange(
                        section: section, entry: "\(name)", old: before == nil ? nil : "", new: before == nil ? "" : nil
                    )
                ]
            }
        }
    }

    private static func differences<Root>(
        _ keys: [SettingKey<Root>], _ old: Root, _ new: Root, in section: String, entry: String?
    ) -> [SettingChange] {
        keys.compactMap { key in
            guard key.print(old) != key.print(new) else { return nil }
            return SettingChange(
                section: section, entry: entry, key: key.name, old: key.show(old), new: key.show(new),
                isReloadable: key.isReloadable, isSecret: key.isSecret)
        }
    }
}
