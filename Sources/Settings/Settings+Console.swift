/// A row of SHOW CONFIG.
public struct ConfigRow: Sendable, Equatable {
    public var key: String
    /// The value now; nil is shown as NULL.
    public var value: String?
    public var defaultValue: String?
    /// False when a change needs a restart.
    public var isChangeable: Bool
}

extension Settings {
    /// The rows of SHOW CONFIG in PgBouncer's order. Passwords are not in them.
    public func configRows() -> [ConfigRow] {
        let defaults = GeneralSettings()
        return GeneralSettings.keys.map { key in
            ConfigRow(
                key: key.name, value: key.show(self.general), defaultValue: key.show(defaults),
                isChangeable: key.isReloadable)
        }
    }

    /// Names of the general settings.
    public static var names: [String] { GeneralSettings.keys.map(\.name) }

    /// Whether a general setting is a password, or may contain one, and so is never shown.
    public static func isSecret(_ key: String) -> Bool {
        GeneralSettings.keysByName[GeneralSettings.aliases[key] ?? key]?.isSecret ?? false
    }

    /// The general setting of this name as the console prints it; nil when it is not set or there is none of the name.
    public func setting(_ key: String) -> String? {
        GeneralSettings.keysByName[GeneralSettings.aliases[key] ?? key]?.show(self.general)
    }

    /// Changes a general setting as SET on the console does.
    ///
    /// Fails when the key is not known, needs a restart, does not take the value, or leaves a database that cannot be
    /// routed; then nothing has changed.
    public mutating func set(_ name: String, to value: String) throws(SettingsError) {
        guard let key = GeneralSettings.keysByName[GeneralSettings.aliases[name] ?? name] else {
            throw SettingsError("unknown key \(quoted(name))\(GeneralSettings.suggestion(for: name))")
        }
        guard key.isReloadable else {
            throw SettingsError("\(name) cannot be changed at run time; change the file and restart")
        }
        var changed = self
        do {
            try key.parse(value, &changed.general)
        } catch {
            throw SettingsError("\(name) \(error.reason)")
        }
        if let error = changed.routingError { throw SettingsError(error) }
        self = changed
    }
}
