extension Bool {
    /// A boolean as PostgreSQL reads one (`parse_bool`): any beginning of true, false, yes, no that tells them apart, on,
    /// of(f), 1, 0, in any case. Nil for anything else.
    public init?(postgreSQL text: String) {
        let text = text.lowercased()
        guard !text.isEmpty else { return nil }
        if "true".hasPrefix(text) || "yes".hasPrefix(text) || text == "on" || text == "1" {
            self = true
        } else if "false".hasPrefix(text) || "no".hasPrefix(text) || text == "of" || text == "off" || text == "0" {
            self = false
        } else {
            return nil
        }
    }
}
