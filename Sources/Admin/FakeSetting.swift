/// Settings of a PostgreSQL server that drivers read and write unasked after login. The console has none of them, so
/// SHOW gives a plausible value and SET does nothing.
enum FakeSetting {
    static func value(of key: String) -> String? {
        switch key.lowercased() {
        case "client_encoding": "UTF-8"
        case "default_transaction_isolation": "read committed"
        case "standard_conforming_strings": "on"
        case "datestyle": "ISO"
        case "timezone": "GMT"
        case "extra_float_digits": "2"
        default: nil
        }
    }
}
