public import Wire

/// Makes `ParameterSet`s, one object for each content; it belongs to one reactor.
public final class ParameterTable {
    private var table = InternTable<ParameterSet>()
    /// What clients have begun with lately: most applications send the same startup packet again and again.
    private var beginnings: [Beginning] = []
    private var nextBeginning = 0

    private struct Beginning {
        let startup: [StartupParameter]
        let defaults: ParameterSet
        let result: ParameterSet
    }
    private static let mostBeginnings = 16

    public init() {}

    /// This table's object for a set that may come from another reactor's table.
    public func intern(_ set: ParameterSet) -> ParameterSet {
        self.intern(set.parameters, object: set)
    }

    /// The set of what a server reported at its login. Of a name that is given twice the last value holds.
    public func reported(_ statuses: [ParameterStatus]) -> ParameterSet {
        var parameters: [String: Parameter] = [:]
        for status in statuses {
            let parameter = Parameter(name: status.name, value: status.value, isReported: true)
            parameters[parameter.key] = parameter
        }
        return self.intern(parameters.values.sorted { $0.key < $1.key })
    }

    /// A set in which one setting has the value that a server has just reported.
    public func setting(_ name: String, _ value: [UInt8], in set: ParameterSet) -> ParameterSet {
        self.replacing(Parameter(name: name, value: value, isReported: true), in: set)
    }

    /// The settings a client begins with: those of a server connection that nobody has used yet, changed by the client's
    /// startup packet.
    ///
    /// - Parameters:
    ///   - startup: settings of the startup packet and of its `options`, in order; the last one of a name holds.
    ///   - defaults: what the pool's servers report at login.
    public func initial(
        _ startup: [StartupParameter], defaults: ParameterSet
    ) throws(ParameterError) -> ParameterSet {
        for known in self.beginnings where known.defaults === defaults && known.startup == startup {
            return known.result
        }
        let beginning = Beginning(
            startup: startup, defaults: defaults, result: try self.begin(startup, defaults: defaults))
        if self.beginnings.count < Self.mostBeginnings {
            self.beginnings.append(beginning)
        } else {
            self.beginnings[self.nextBeginning] = beginning
            self.nextBeginning = (self.nextBeginning + 1) % Self.mostBeginnings
        }
        return beginning.result
    }

    private func begin(_ startup: [StartupParameter], defaults: ParameterSet) throws(ParameterError) -> ParameterSet {
        var set = defaults
        for parameter in startup {
            guard ParameterNames.isValid(parameter.name) else { throw .unknown(name: parameter.name) }
            let key = parameter.name.lowercased()
            guard !ParameterNames.readOnly.contains(key) else { throw .readOnly(name: parameter.name) }
            let known = defaults[key]
            let value = try ParameterValues.canonical(key, parameter.value, base: set[key])
            set = self.replacing(
                Parameter(
                    name: known?.name ?? parameter.name, value: value, isReported: known?.isReported ?? false),
                in: set)
        }
        return self.intern(set)
    }

    /// The settings of both sides after a server has made changes for a client.
    ///
    /// What the server reports now is the client's value from here on: "utc" has become "UTC", a long
    /// `application_name` was cut. Without that the two would differ for ever, and be set again and again. What the
    /// server does not report is noted as set.
    ///
    /// - Parameters:
    ///   - changes: those made, with success.
    ///   - server: the server's settings with all that it has reported meanwhile.
    public func applied(
        _ changes: [ParameterChange], client: ParameterSet, server: ParameterSet
    ) -> (client: ParameterSet, server: ParameterSet) {
        var (client, server) = (client, server)
        for change in changes {
            switch change {
            case .set(let parameter):
                if let reported = server[parameter.key], reported.isReported {
                    client = self.replacing(reported, in: client)
                } else {
                    let extra = Parameter(name: parameter.name, value: parameter.value, isReported: false)
                    client = self.replacing(extra, in: client)
                    server = self.replacing(extra, in: server)
                }
            case .reset(let name):
                if server[name]?.isReported == false { server = self.removing(name, in: server) }
            }
        }
        return (client, server)
    }

    /// A server's settings after `RESET ALL` or `DISCARD ALL`: what it does not report has its default again.
    public func withoutExtras(_ set: ParameterSet) -> ParameterSet {
        if set.parameters.allSatisfy(\.isReported) { return set }
        return self.intern(set.parameters.filter(\.isReported))
    }

    /// Entries, of which some may belong to sets that are gone.
    var count: Int { self.table.count }

    private func replacing(_ parameter: Parameter, in set: ParameterSet) -> ParameterSet {
        let position = set.position(parameter.key)
        var parameters = set.parameters
        if let found = position.found {
            if parameters[found] == parameter { return set }
            parameters[found] = parameter
        } else {
            parameters.insert(parameter, at: position.insertion)
        }
        return self.intern(parameters)
    }

    private func removing(_ name: String, in set: ParameterSet) -> ParameterSet {
        guard let found = set.position(name.lowercased()).found else { return set }
        var parameters = set.parameters
        parameters.remove(at: found)
        return self.intern(parameters)
    }

    private func intern(_ parameters: [Parameter], object: ParameterSet? = nil) -> ParameterSet {
        var hasher = Hasher()
        for parameter in parameters {
            hasher.combine(parameter.key)
            hasher.combine(parameter.value)
        }
        let hash = UInt32(truncatingIfNeeded: hasher.finalize())
        if let known = self.table.find(hash, where: { $0.parameters == parameters }) { return known }
        let set = object ?? ParameterSet(parameters)
        self.table.insert(hash, set)
        return set
    }
}
