/// What this program calls itself.
public enum Version {
    public static let number = "0.1.0"
    /// First line of `--version`, and the answer of SHOW VERSION.
    public static let text = "Martlet \(Version.number)"
}
