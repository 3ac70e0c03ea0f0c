import Reactor
import Settings

/// The TLS contexts of a configuration, made of the files and rules in its settings.
struct TLSContexts: Sendable {
    /// Reads a file.
    typealias FileReader = (String) -> Result<[UInt8], FileError>

    /// Towards clients; nil if they are offered none.
    var clients: TLSContext?
    /// Towards servers; nil if no database asks for it.
    var servers: TLSContext?

    /// Whether the contexts have to be made anew when this setting changes.
    static func depend(on key: String) -> Bool {
        key.hasPrefix("client_tls_") || key.hasPrefix("server_tls_") || key == "auth_type"
    }

    /// Reads the files. A failure names the setting or the file, and the reason.
    static func load(_ settings: Settings, readFile: FileReader) -> Result<TLSContexts, TLSError> {
        do throws(TLSError) {
            return .success(
                TLSContexts(
                    clients: try self.clients(settings.general, readFile),
                    servers: try self.servers(settings, readFile)))
        } catch {
            return .failure(error)
        }
    }

    private static func clients(
        _ general: GeneralSettings, _ readFile: FileReader
    ) throws(TLSError) -> TLSContext? {
        let mode = general.clientTlsSslmode
        if general.authType == .cert && mode != .verifyFull {
            throw TLSError("auth_type = cert needs client_tls_sslmode = verify-full")
        }
        guard mode != .disable else { return nil }
        guard !general.clientTlsKeyFile.isEmpty, !general.clientTlsCertFile.isEmpty else {
            throw TLSError(
                "client_tls_sslmode = \(mode.rawValue) needs client_tls_key_file and client_tls_cert_file")
        }
        var options = TLSOptions(role: .server)
        options.key = try self.read("client_tls_key_file", general.clientTlsKeyFile, readFile)
        options.certificates = try self.read("client_tls_cert_file", general.clientTlsCertFile, readFile)
        if mode.verifies {
            guard !general.clientTlsCaFile.isEmpty else {
                throw TLSError("client_tls_sslmode = \(mode.rawValue) needs client_tls_ca_file")
            }
            options.authorities = .file(try self.read("client_tls_ca_file", general.clientTlsCaFile, readFile))
            options.requiresClientCertificate = true
        }
        options.versions = self.versions(general.clientTlsProtocols)
        options.ciphers = self.ciphers(general.clientTlsCiphers)
        options.cipherSuites = general.clientTls13Ciphers
        switch general.clientTlsEcdhcurve {
        case "auto", "": options.curves = nil
        case "none": options.curves = ""
        default: options.curves = general.clientTlsEcdhcurve
        }
        switch general.clientTlsDheparams {
        case "none": options.diffieHellman = .none
        case "legacy": options.diffieHellman = .legacy
        default: options.diffieHellman = .automatic
        }
        return try self.context(options, "client_tls")
    }

    private static func servers(_ settings: Settings, _ readFile: FileReader) throws(TLSError) -> TLSContext? {
        let general = settings.general
        let entries = Array(settings.databases.values) + [settings.fallbackDatabase].compactMap { $0 }
        let modes = [general.serverTlsSslmode] + entries.compactMap(\.sslmode)
        guard modes.contains(where: { $0 != .disable }) else { return nil }
        if general.serverTlsSslnegotiation == .direct,
            let weak = modes.first(where: { !$0.requiresTLS && $0 != .disable })
        {
            throw TLSError(
                "server_tls_sslnegotiation = direct needs sslmode require or stricter, not \(weak.rawValue)")
        }
        var options = TLSOptions(role: .client)
        if !general.serverTlsCertFile.isEmpty || !general.serverTlsKeyFile.isEmpty {
            options.key = try self.read("server_tls_key_file", general.serverTlsKeyFile, readFile)
            options.certificates = try self.read("server_tls_cert_file", general.serverTlsCertFile, readFile)
        }
        if !general.serverTlsCaFile.isEmpty {
            options.authorities = .file(try self.read("server_tls_ca_file", general.serverTlsCaFile, readFile))
        } else if modes.contains(where: \.verifies) {
            options.authorities = .system
        }
        options.versions = self.versions(general.serverTlsProtocols)
        options.ciphers = self.ciphers(general.serverTlsCiphers)
        options.cipherSuites = general.serverTls13Ciphers
        return try self.context(options, "server_tls")
    }

    private static func context(_ options: TLSOptions, _ prefix: String) throws(TLSError) -> TLSContext {
        do throws(TLSError) {
            return try TLSContext(options)
        } catch {
            throw TLSError("\(prefix): \(error)")
        }
    }

    private static func read(
        _ key: String, _ path: String, _ readFile: FileReader
    ) throws(TLSError) -> TLSOptions.File {
        guard !path.isEmpty else { throw TLSError("\(key) is not set") }
        switch readFile(path) {
        case .success(let bytes): return TLSOptions.File(name: path, bytes: bytes)
        case .failure(let error): throw TLSError("\(key): cannot read \(path): \(error.reason)")
        }
    }

    /// Words such as `secure` or `all, !tlsv1.3`, one after the other.
    static func versions(_ text: String) -> TLSOptions.Versions {
        var versions: TLSOptions.Versions = []
        let words = text.lowercased().split { $0 == "," || $0 == ":" || $0.isWhitespace }
        for (index, word) in words.enumerated() {
            let isNegated = word.first == "!"
            let named: TLSOptions.Versions =
                switch isNegated ? word.dropFirst() : word {
                case "tlsv1.0": .v10
                case "tlsv1.1": .v11
                case "tlsv1.2": .v12
                case "tlsv1.3": .v13
                case "secure": .secure
                default: .all
                }
            if isNegated {
                // Only exceptions: from all.
                if index == 0 { versions = .all }
                versions.subtract(named)
            } else {
                versions.formUnion(named)
            }
        }
        return words.isEmpty ? .secure : versions
    }

    /// OpenSSL's list for PgBouncer's words; nil is OpenSSL's own choice.
    static func ciphers(_ text: String) -> String? {
        switch text.lowercased() {
        case "", "default", "secure", "fast", "normal": nil
        case "all": "ALL:!aNULL:!eNULL"
        default: text
        }
    }
}
