/// The functions of pg_catalog, and which of them need the primary.
///
/// The table holds the names of all, so that a name that is none of them is known to be a user's. Types count too:
/// `date(x)` is a cast.
enum BuiltinFunctions {
    /// Functions that have the same effect.
    struct Group {
        let kind: StatementClass.Kind
        /// Whether what follows in the transaction needs the same server.
        let binds: Bool
        /// Behind "calls f, which".
        let reason: String
        /// In the order of their bytes, divided by single blanks.
        let names: String
    }

    /// The group of a name, nil if it is not one of PostgreSQL's.
    static func find(_ name: String) -> Group? {
        for group in self.groups where Self.contains(group.names, name) { return group }
        return Self.contains(self.readOnly, name) ? self.reading : nil
    }

    /// Whether a function shows what is in catalogues or tables.
    static func showsData(_ name: String) -> Bool { Self.contains(self.showingData, name) }

    /// Whether a function runs queries that the statement does not show, which may be of anything in the database.
    static func runsQueries(_ name: String) -> Bool { Self.contains(self.runningQueries, name) }

    /// Whether a setting belongs to the session, or is the same on all nodes of a cluster. A setting of an extension or
    /// of the user's own does; the router's are none of a server's. One that is not known may tell about its node.
    static func isSessionSetting(_ name: String) -> Bool {
        let name = name.lowercased()
        return name.contains(".") ? !name.hasPrefix("martlet.") : Self.contains(self.sessionSettings, name)
    }

    private static let reading = Group(kind: .read, binds: false, reason: "only reads", names: "")

    /// Bisects a list of sorted names.
    private static func contains(_ names: String, _ name: String) -> Bool {
        let names = names.utf8
        let wanted = name.utf8
        // The name looked for, if it is there, begins within these bounds; both are beginnings of names.
        var lower = names.startIndex
        var upper = names.endIndex
        while lower < upper {
            var start = names.index(lower, offsetBy: names.distance(from: lower, to: upper) / 2)
            while start > lower, names[names.index(before: start)] != UInt8(ascii: " ") {
                start = names.index(before: start)
            }
            let end = names[start...].firstIndex(of: UInt8(ascii: " ")) ?? names.endIndex
            let candidate = names[start..<end]
            if candidate.elementsEqual(wanted) { return true }
            if candidate.lexicographicallyPrecedes(wanted) {
                lower = end < names.endIndex ? names.index(after: end) : end
            } else {
                upper = start
            }
        }
        return false
    }
}
