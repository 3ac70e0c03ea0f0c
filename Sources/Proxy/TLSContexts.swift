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
    /// What the files contained that the contexts were made of, by the settings that name them.
    private(set) var files: [String: TLSOptions.File] = [:]

    /// Reads the files. A failure names the setting or the file, and the reason.
    static func load(_ settings: Settings, readFile: FileReader) -> Result<TLSContexts, TLSError> {
        do throws(TLSError) {
            let clients = try self.clients(settings.general, readFile)
            let servers = try self.servers(settings, readFile)
            var contexts = TLSContexts()
            if let clients {
                contexts.clients = try self.context(clients, "client_tls")
                contexts.note(clients, "client_tls")
            }
            if let servers {
                contexts.servers = try self.context(servers, "server_tls")
                contexts.note(servers, "server_tls")
            }
            return .success(contexts)
        } catch {
            return .failure(error)
        }
    }

    private mutating func note(_ options: TLSOptions, _ prefix: String) {
        // Of a key nothing is kept: a new one comes with a new certificate.
        self.files["\(prefix)_cert_file"] = options.certificates
        if case .file(let file) = options.authorities { self.files["\(prefix)_ca_file"] = file }
    }

    /// The settings whose files have the names that they had, and other contents.
    func filesChanged(since old: TLSContexts) -> [String] {
        self.files.filter { key, file in
            old.files[key].map { $0.name == file.name && $0.bytes != file.bytes } ?? false
        }.keys.sorted()
    }

    /// The setting whose file has to fit to this one's: of a key and its certificate the other.
    static func partner(of key: String) -> String? {
        switch key {
        case "client_tls_key_file": "client_tls_cert_file"
        case "client_tls_cert_file": "client_tls_key_file"
        case "server_tls_key_file": "server_tls_cert_file"
        case "server_tls_cert_file": "server_tls_key_file"
        default: nil
        }
    }

    private static func clients(
        _ general: GeneralSettings, _ readFile: FileReader
    ) throws(TLSError) -> TLSOptions? {
        let mode = general.clientTlsSslmode
        if general.authType == .cert && mode != .verifyFull {
            throw TLSError("auth_type = cert needs client_tls_sslmode = verify-full")
        }
        guard mode != .disable else { return nil }
        guard !general.clientTlsKeyFile.isEmpty, !general.clientTlsCertFile.isEmpty else {
            throw TLSError(
                "client_tls_sslmode = \(mode.rawValue) needs client_tls_key_file and client_tls_cert_file",
                isUnfitPair: general.clientTlsKeyFile.isEmpty != general.clientTlsCertFile.isEmpty)
        }
        var options = TLSOptions(role: .server)
        options.key = try self.read("client_tls_key_file", general.clientTlsKeyFile, readFile)
        options.certificates = try self.read("client_tls_cert_file", general.clientTlsCertFile, readFile)
        if !general.clientTlsCaFile.isEmpty {
            // Rules of the HBA file may want a certificate of some clients; as in PostgreSQL all are asked.
            options.authorities = .file(try self.read("client_tls_ca_file", general.clientTlsCaFile, readFile))
            options.clientCertificate = mode.verifies ? .required : .wanted
        } else if mode.verifies {
            throw TLSError("client_tls_sslmode = \(mode.rawValue) needs client_tls_ca_file")
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
        return options
    }

    private static func servers(_ settings: Settings, _ readFile: FileReader) throws(TLSError) -> TLSOptions? {
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
        return options
    }

    private static func context(_ options: TLSOptions, _ prefix: String) throws(TLSError) -> TLSContext {
        do throws(TLSError) {
            return try TLSContext(options)
        } catch {
            throw TLSError("\(prefix): \(error)", isUnfitPair: error.isUnfitPair)
        }
    }

    private static func read(
        _ key: String, _ path: String, _ readFile: FileReader
    ) throws(TLSError) -> TLSOptions.File {
        guard !path.isEmpty else { throw TLSError("\(key) is not set", isUnfitPair: true) }
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
