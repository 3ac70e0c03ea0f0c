import SQL

/// What a database's catalogue is asked for, and what the answer says.
enum CatalogueQuery {
    /// Of a larger catalogue nothing is known: memory is bounded.
    static let maximumRows = 200_000

    /// What a row says; its other columns are a name, the name of what it stands behind, and of a function its schema
    /// and its volatility from 1 (immutable) to 3.
    enum Kind: String {
        case function = "f"
        /// Properties of relations.
        case unlogged = "u"
        case sequence = "s"
        case foreign = "x"
        case unpopulated = "n"
        case locking = "l"
        /// Some sessions do not begin with READ COMMITTED.
        case otherIsolation = "i"
        /// A function or relation behind a view, or behind a table with policies.
        case calledByRelation = "c"
        case relation = "r"
        /// A function that checks what becomes a value of a column's type, or that stands behind FOR UPDATE.
        case checkedByRelation = "p"
        case calledByLock = "w"
        case calledByOperator = "o"
        case calledByType = "t"
        /// A function that a call of another one calls before it.
        case calledByFunction = "d"
        case calledEverywhere = "e"
        /// A setting that a view, policy or check shows, as bytes; its last column is the kind of what shows it.
        case setting = "g"
        /// A function of one row.
        case rowFunction = "m"
    }

    /// Reads the catalogue; nil if it is larger than `maximumRows`.
    static func read(
        from connection: MonitorConnection, deadline: Int64
    ) throws(MonitorConnection.Failure) -> Catalogue? {
        Self.catalogue(try connection.query(self.text, deadline: deadline))
    }

    /// Makes a catalogue of the query's rows.
    static func catalogue(_ rows: [[String?]]) -> Catalogue? {
        guard rows.count <= self.maximumRows else { return nil }
        var catalogue = Catalogue()
        for row in rows where row.count == 5 {
            guard let kind = row[0].flatMap({ Kind(rawValue: $0) }), let name = row[1] else { continue }
            let function = Catalogue.Function(
                name: name, schema: row[3] ?? "", volatility: Self.volatility(row[4]))
            switch kind {
            case .function:
                catalogue.functions[name] = max(catalogue.functions[name] ?? .immutable, function.volatility)
                if !function.schema.isEmpty { catalogue.schemas[name, default: []].append(function.schema) }
            case .unlogged: catalogue.properties[.unlogged, default: []].insert(name)
            case .sequence: catalogue.properties[.sequence, default: []].insert(name)
            case .foreign: catalogue.properties[.foreign, default: []].insert(name)
            case .unpopulated: catalogue.properties[.unpopulated, default: []].insert(name)
            case .locking: catalogue.properties[.locking, default: []].insert(name)
            case .otherIsolation: catalogue.hasOtherDefaultIsolation = true
            case .rowFunction: catalogue.rowFunctions.insert(name)
            case .calledEverywhere: catalogue.everywhere.append(function)
            case .calledByRelation, .relation, .checkedByRelation, .calledByLock, .calledByOperator, .calledByType,
                .calledByFunction, .setting:
                if let behind = row[2] { Self.add(kind, function, behind: behind, row[4], to: &catalogue) }
            }
        }
        catalogue.isKnown = true
        catalogue.sort()
        return catalogue
    }

    private static func add(
        _ kind: Kind, _ function: Catalogue.Function, behind name: String, _ detail: String?,
        to catalogue: inout Catalogue
    ) {
        switch kind {
        case .calledByRelation: catalogue.definitions[name, default: .init()].functions.append(function)
        case .relation: catalogue.definitions[name, default: .init()].relations.append(function.name)
        case .checkedByRelation: catalogue.definitions[name, default: .init()].checks.append(function)
        case .calledByLock: catalogue.definitions[name, default: .init()].locking.append(function)
        case .calledByOperator: catalogue.operators[name, default: []].append(function)
        case .calledByType: catalogue.types[name, default: []].append(function)
        case .calledByFunction: catalogue.calls[name, default: []].append(function)
        case .setting:
            if let setting = Self.setting(function.name), Catalogue.isSessionSetting(setting) { return }
            if detail == "2" {
                catalogue.types[name, default: []].append(Catalogue.currentSetting)
            } else {
                catalogue.definitions[name, default: .init()].functions.append(Catalogue.currentSetting)
            }
        case .function, .unlogged, .sequence, .foreign, .unpopulated, .locking, .otherIsolation, .calledEverywhere,
            .rowFunction:
            break
        }
    }

    /// The text of a constant as trees show it: bytes as numbers, the first four of which are its length.
    private static func setting(_ bytes: String) -> String? {
        let numbers = bytes.split(separator: " ").map { UInt8($0) }
        let text = numbers.dropFirst(4).compactMap { $0 }
        guard text.count > 0, text.count == numbers.count - 4, text.allSatisfy({ $0 < 0x80 }) else { return nil }
        return String(decoding: text, as: UTF8.self)
    }

    private static func volatility(_ rank: String?) -> Catalogue.Volatility {
        switch rank {
        case "1": .immutable
        case "2": .stable
        default: .volatile
        }
    }
}
