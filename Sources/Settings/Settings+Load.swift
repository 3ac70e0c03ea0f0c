extension Settings {
    /// Reads and checks a configuration file and all that it includes.
    ///
    /// All errors are told at once; the settings are nil when there was any. Warnings and notes may come with settings.
    /// - Parameters:
    ///   - path: The file, as messages shall name it.
    ///   - read: Gives the bytes of a file; an included one is named as it is written in the file.
    public static func load(
        path: String, read: (_ path: String) -> Result<[UInt8], FileError>
    ) -> (settings: Settings?, diagnostics: [Diagnostic]) {
        var loader = SettingsLoader()
        var isComplete = true
        // The reader does not outlive this call, and so neither does the closure.
        withoutActuallyEscaping(read) { read in
            var reader = INIReader(sections: SettingsLoader.sections, read: read)
            reader.readFile(path)
            loader.add(reader.diagnostics)
            isComplete = reader.isComplete
            for entry in reader.entries {
                loader.load(entry)
            }
        }
        // Of what was not read nothing can be said.
        if isComplete { loader.check(path: path) }
        loader.reportKeysWithoutEffect()
        let isUsable = !loader.diagnostics.contains { $0.severity == .error }
        var settings = loader.settings
        settings.general.conffile = settings.general.conffile ?? path
        return (isUsable ? settings : nil, loader.diagnostics)
    }
}

extension GeneralSettings {
    /// `; did you mean …?` for a key that is not known.
    static func suggestion(for name: String) -> String {
        NearestName.suggestion(for: name, in: Self.keys.lazy.map(\.name))
    }
}

extension SettingsLoader {
    /// Checks what no key tells by itself.
    mutating func check(path: String) {
        let general = self.settings.general
        if general.listenAddr.isEmpty && general.unixSocketDir.isEmpty {
            self.report(
                .warning, self.place(ofKey: "unix_socket_dir"),
                "neither listen_addr nor unix_socket_dir is set: nothing to listen on but sockets passed on by systemd")
        }
        if let socket = general.listenSocketPath, socket.utf8.count > 107 {
            self.report(
                .error, self.place(ofKey: "unix_socket_dir"), "unix_socket_dir is too long a path for a Unix socket")
        }
        switch general.authType {
        case .trust, .plain, .md5, .cert, .scramSHA256:
            if general.authFile == nil, !self.settings.asksServers, !general.authPassthrough {
                self.add([
                    Diagnostic(
                        .warning, file: path,
                        "auth_type = \(general.authType.rawValue) without auth_file: no client can log in")
                ])
            }
        case .hba:
            if general.authHbaFile.isEmpty {
                self.report(.error, self.place(ofKey: "auth_type"), "auth_type = hba needs auth_hba_file")
            }
        case .ldap:
            if general.authLdapOptions == nil {
                self.report(.error, self.place(ofKey: "auth_type"), "auth_type = ldap needs auth_ldap_options")
            }
        case .any, .pam: break
        }
        self.checkAuthDatabase(general.authDbname, self.place(ofKey: "auth_dbname"))
        let databases =
            self.settings.databases.values.sorted { $0.name < $1.name }
            + [self.settings.fallbackDatabase].compactMap { $0 }
        for database in databases {
            self.check(database)
        }
    }

    /// `auth_dbname` must lead somewhere.
    private mutating func checkAuthDatabase(_ name: String?, _ place: SourceLine?) {
        guard let name else { return }
        if name == Settings.consoleDatabase {
            self.report(.error, place, "auth_dbname cannot be \(quoted(name)), which is the console")
        } else if self.settings.databases[name] == nil, self.settings.fallbackDatabase == nil {
            self.report(.error, place, "auth_dbname is \(quoted(name)), which is not in [databases]")
        }
    }

    private mutating func check(_ database: DatabaseSettings) {
        self.checkAuthDatabase(database.authDbname, database.source)
        let general = self.settings.general
        let subject = "database \(quoted(database.name))"
        if general.unixSocketDir.isEmpty, database.hosts.contains(where: { $0.host.isEmpty }) {
            self.report(.error, database.source, "\(subject) has no host, and unix_socket_dir is empty")
        }
        if general.authType == .any, database.user == nil {
            self.report(.warning, database.source, "\(subject) has no user, which auth_type = any needs")
        }
        if database.user == nil, database.password != nil {
            self.report(.warning, database.source, "\(subject) has a password, but no user that it belongs to")
        }
        for remark in self.settings.routingRemarks(on: database) {
            self.report(remark.severity, database.source, remark.message)
        }
    }
}

extension Settings {
    /// Whether users are looked up by `auth_query` anywhere.
    public var asksServers: Bool {
        self.general.authUser != nil || self.fallbackDatabase?.authUser != nil
            || self.databases.values.contains { $0.authUser != nil }
    }
}

extension GeneralSettings {
    /// Whether clients with a plain password in the `auth_file` may be asked for SCRAM.
    public var asksForSCRAM: Bool {
        switch self.authType {
        case .scramSHA256, .hba: true
        case .md5: !self.authAllowMd5
        case .any, .trust, .plain, .cert, .ldap, .pam: false
        }
    }
}
