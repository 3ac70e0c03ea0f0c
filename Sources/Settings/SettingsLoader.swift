/// Turns the lines of the configuration into settings and collects everything there is to say about them.
struct SettingsLoader {
    static let sections: Set<String> = ["pgbouncer", "martlet", "databases", "users", "peers"]

    private(set) var settings = Settings()
    private(set) var diagnostics: [Diagnostic] = []
    /// Where each key, database, user and peer was set last.
    private var places: [String: SourceLine] = [:]
    /// The keys without effect that each file sets, in the order of the files and of the keys.
    private var withoutEffect: [(file: String?, keys: [String])] = []

    /// Reads one line.
    mutating func load(_ entry: INIEntry) {
        switch entry.section {
        case "databases": self.loadDatabase(entry)
        case "users": self.loadUser(entry)
        case "peers": self.loadPeer(entry)
        default: self.loadGeneral(entry)
        }
    }

    private mutating func loadGeneral(_ entry: INIEntry) {
        let name = GeneralSettings.aliases[entry.name] ?? entry.name
        guard let key = GeneralSettings.keysByName[name] else {
            self.report(
                .error, entry.source,
                "unknown key \(quoted(entry.name)) in [\(entry.section)]\(GeneralSettings.suggestion(for: entry.name))")
            return
        }
        self.noteDuplicate("key \(quoted(name))", entry.source)
        do {
            try key.parse(entry.value, &self.settings.general)
            self.noteEffect(key, of: self.settings.general, entry.source)
        } catch {
            self.report(.error, entry.source, "\(entry.name) \(error.reason)")
        }
    }

    private mutating func loadDatabase(_ entry: INIEntry) {
        guard entry.name != Settings.consoleDatabase else {
            self.report(.error, entry.source, "database name \(quoted(entry.name)) is reserved for the console")
            return
        }
        self.noteDuplicate("database \(quoted(entry.name))", entry.source)
        self.loadDatabase(named: entry.name, from: entry.value, entry.source)
    }

    /// Reads a connection string in either notation into a database, the fallback one when the name is `*`.
    mutating func loadDatabase(named name: String, from text: String, _ source: SourceLine?) {
        let subject = "database \(quoted(name))"
        guard let assignments = self.assignments(text, of: subject, source) else { return }
        self.loadDatabase(named: name, from: assignments, subject, source)
    }

    mutating func loadDatabase(
        named name: String, from assignments: [Assignment], _ subject: String, _ source: SourceLine?
    ) {
        var database = DatabaseSettings(name: name)
        database.source = source
        let isComplete = self.assign(
            assignments, to: &database, DatabaseSettings.keysByName, aliases: DatabaseSettings.aliases, of: subject,
            source)
        guard isComplete else { return }
        if let weights = database.weights, !weights.isEmpty, weights.count != database.hosts.count {
            self.report(
                .error, source,
                "\(subject): weights lists \(weights.count) numbers for \(database.hosts.count) hosts:"
                    + " it takes one for each, in their order")
        }
        if name == "*" {
            self.settings.fallbackDatabase = database
        } else {
            self.settings.databases[name] = database
        }
    }

    private mutating func loadUser(_ entry: INIEntry) {
        self.noteDuplicate("user \(quoted(entry.name))", entry.source)
        var user = UserSettings(name: entry.name)
        let subject = "user \(quoted(entry.name))"
        if let assignments = self.assignments(entry.value, of: subject, entry.source),
            self.assign(assignments, to: &user, UserSettings.keysByName, of: subject, entry.source)
        {
            self.settings.users[entry.name] = user
        }
    }

    private mutating func loadPeer(_ entry: INIEntry) {
        guard let id = Int(entry.name), (1...PeerSettings.largestID).contains(id) else {
            self.report(
                .error, entry.source,
                "a peer must be a number from 1 to \(PeerSettings.largestID), not \(quoted(entry.name))")
            return
        }
        self.noteDuplicate("peer \(id)", entry.source)
        var peer = PeerSettings(id: id)
        guard let assignments = self.assignments(entry.value, of: "peer \(id)", entry.source),
            self.assign(assignments, to: &peer, PeerSettings.keysByName, of: "peer \(id)", entry.source)
        else { return }
        guard !peer.address.host.isEmpty else {
            self.report(.error, entry.source, "peer \(id): host needs a value")
            return
        }
        self.settings.peers[id] = peer
        self.noteNoEffect("[peers]", entry.source)
    }

    /// Takes a connection string apart; nil when there was an error.
    private mutating func assignments(_ text: String, of subject: String, _ source: SourceLine?) -> [Assignment]? {
        do {
            return ConnectionURL.matches(text) ? try ConnectionURL.parse(text) : try ConnectionString.parse(text)
        } catch {
            self.report(.error, source, "the connection string of \(subject) \(error.reason)")
            return nil
        }
    }

    /// Assigns the pairs of a connection string. False when there was an error.
    private mutating func assign<Root>(
        _ assignments: [Assignment], to root: inout Root, _ keys: [String: SettingKey<Root>],
        aliases: [String: String] = [:], of subject: String, _ source: SourceLine?
    ) -> Bool {
        var isComplete = true
        var seen: Set<String> = []
        // The ports are checked against the hosts, so those come first wherever they stand.
        for assignment in assignments.filter({ $0.key == "host" }) + assignments.filter({ $0.key != "host" }) {
            guard let key = keys[aliases[assignment.key] ?? assignment.key] else {
                let suggestion = NearestName.suggestion(for: assignment.key, in: keys.keys.sorted())
                self.report(.error, source, "unknown key \(quoted(assignment.key)) of \(subject)\(suggestion)")
                isComplete = false
                continue
            }
            if !seen.insert(key.name).inserted {
                self.report(.warning, source, "\(subject) sets \(key.name) twice; the last one counts")
            }
            do {
                try key.parse(assignment.value, &root)
                self.noteEffect(key, of: root, source)
            } catch {
                self.report(.error, source, "\(subject): \(assignment.key) \(error.reason)")
                isComplete = false
            }
        }
        return isComplete
    }
}

extension SettingsLoader {
    mutating func report(_ severity: Diagnostic.Severity, _ source: SourceLine?, _ message: String) {
        self.diagnostics.append(Diagnostic(severity, at: source, message))
    }

    mutating func add(_ diagnostics: [Diagnostic]) {
        self.diagnostics += diagnostics
    }

    /// The place of a general key, nil when the file does not set it.
    func place(ofKey name: String) -> SourceLine? {
        self.places["key \(quoted(name))"]
    }

    private mutating func noteDuplicate(_ subject: String, _ source: SourceLine) {
        if let earlier = self.places.updateValue(source, forKey: subject) {
            self.report(.warning, source, "\(subject) replaces the one at \(earlier)")
        }
    }

    private mutating func noteEffect<Root>(_ key: SettingKey<Root>, of root: Root, _ source: SourceLine?) {
        guard case .none(let neutral) = key.effect, !neutral.contains(key.print(root) ?? "") else { return }
        self.noteNoEffect(key.name, source)
    }

    private mutating func noteNoEffect(_ name: String, _ source: SourceLine?) {
        let index = self.withoutEffect.firstIndex { $0.file == source?.file } ?? self.withoutEffect.count
        if index == self.withoutEffect.count {
            self.withoutEffect.append((source?.file, []))
        }
        if !self.withoutEffect[index].keys.contains(name) {
            self.withoutEffect[index].keys.append(name)
        }
    }

    /// Says in one line for each file which of its keys do nothing yet.
    mutating func reportKeysWithoutEffect() {
        for (file, keys) in self.withoutEffect {
            self.diagnostics.append(
                Diagnostic(.note, file: file, "without effect in this version: \(keys.joined(separator: ", "))"))
        }
    }
}
