public import Authentication
public import Settings

/// Everything that a reload replaces: the settings and the secrets of the `auth_file`. Immutable; each reactor holds
/// the newest one it was given.
public final class Configuration: Sendable {
    public let settings: Settings
    /// Users' secrets from the `auth_file`.
    public let secrets: [String: Secret]

    public init(settings: Settings, secrets: [String: Secret]) {
        self.settings = settings
        self.secrets = secrets
    }
}
