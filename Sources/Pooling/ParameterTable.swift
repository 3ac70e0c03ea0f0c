public import Wire

/// Makes `ParameterSet`s, one object for each content; it belongs to one reactor.
public final class ParameterTable {
    private var table = InternTable<ParameterSet>()
    /// What clients have begun with lately: most applications send the same startup packet again and again.
    private var beginnings: [Beginning] = []
    private var nextBeginning = 0

    /// What a client begins with.
    public struct Beginning {
        let startup: [StartupParameter]
        let defaults: ParameterSet
        public let settings: ParameterSet
        /// Those of its startup packet.
        public let own: ParameterSet
    }
    private static let mostBeginnings = 16

    public init() {}

    /// This table's object for a set that may come from another reactor's table.
    public func intern(_ set: ParameterSet) -> ParameterSet {
        self.intern(set.parameters, object: set)
    }

    /// A set in which settings have the values that a server has reported since, at its login or later. Of a name that is
    /// given twice the last value holds.
    public func reported(
        _ statuses: [ParameterStatus], in set: ParameterSet = .empty
    ) throws(ParameterError) -> ParameterSet {
        var parameters: [String: Parameter] = [:]
        for status in statuses {
            let parameter = Parameter(name: status.name, value: status.value, isReported: true)
            parameters[parameter.key] = parameter
        }
        let result = self.replacing(parameters, in: set)
        guard result.parameters.count(where: \.isReported) <= ParameterSet.most,
            result.statusMessages.count <= ParameterSet.mostBytes
        else { throw .tooMany }
        return result
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
        try self.beginning(startup, defaults: defaults).settings
    }

    /// The same, and what of it is the client's own.
    public func beginning(
        _ startup: [StartupParameter], defaults: ParameterSet
    ) throws(ParameterError) -> Beginning {
        for known in self.beginnings where known.defaults === defaults && known.startup == startup { return known }
        let own = try self.own(startup, defaults: defaults)
        let beginning = Beginning(
            startup: startup, defaults: defaults, settings: self.replacing(own, in: defaults),
            own: self.replacing(own, in: .empty))
        if self.beginnings.count < Self.mostBeginnings {
            self.beginnings.append(beginning)
        } else {
            self.beginnings[self.nextBeginning] = beginning
            self.nextBeginning = (self.nextBeginning + 1) % Self.mostBeginnings
        }
        return beginning
    }

    private func own(
        _ startup: [StartupParameter], defaults: ParameterSet
    ) throws(ParameterError) -> [String: Parameter] {
        guard startup.count <= ParameterSet.most else { throw .tooMany }
        var own: [String: Parameter] = [:]
        for parameter in startup {
            guard ParameterNames.isValid(parameter.name) else { throw .unknown(name: parameter.name) }
            let key = parameter.name.lowercased()
            guard !ParameterNames.readOnly.contains(key) else { throw .readOnly(name: parameter.name) }
            let known = defaults[key]
            let value = try ParameterValues.canonical(key, parameter.value, base: own[key] ?? known)
            own[key] = Parameter(
                name: known?.name ?? parameter.name, value: value, isReported: known?.isReported ?? false)
        }
        return own
    }

    /// A client's settings when a server's own values are others than those that the client has known. What the client has
    /// from there changes; what it has set itself stays.
    ///
    /// - Parameters:
    ///   - own: what it has set in its startup packet. Else its own is what differs from `old`.
    public func rebased(
        _ client: ParameterSet, own: ParameterSet, from old: ParameterSet, to new: ParameterSet
    ) -> ParameterSet {
        if old === new { return client }
        var kept: [String: Parameter] = [:]
        for parameter in client.parameters where !parameter.isReadOnly {
            guard own[parameter.key] != nil || old[parameter.key]?.value != parameter.value else { continue }
            kept[parameter.key] =
                new[parameter.key].map {
                    Parameter(name: $0.name, value: parameter.value, isReported: $0.isReported)
                } ?? parameter
        }
        return self.replacing(kept, in: new)
    }

    /// A server's own values, in which some are now what its session has.
    public func taking(_ names: [String], of session: ParameterSet, in defaults: ParameterSet) -> ParameterSet {
        var changed: [String: Parameter] = [:]
        for name in names {
            guard let parameter = session[name], parameter.isReported, defaults[name] != parameter else { continue }
            changed[parameter.key] = parameter
        }
        return self.replacing(changed, in: defaults)
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
        var (ours, theirs): ([String: Parameter], [String: Parameter]) = ([:], [:])
        var gone: Set<String> = []
        for change in changes {
            switch change {
            case .set(let parameter):
                if let reported = server[parameter.key], reported.isReported {
                    ours[parameter.key] = reported
                } else {
                    let extra = Parameter(name: parameter.name, value: parameter.value, isReported: false)
                    ours[parameter.key] = extra
                    theirs[parameter.key] = extra
                }
            case .reset(let name):
                guard let known = server[name] else { continue }
                if known.isReported { ours[known.key] = known } else { gone.insert(known.key) }
            }
        }
        return (
            self.replacing(ours, in: client),
            self.replacing(theirs, in: gone.isEmpty ? server : self.removing(gone, from: server))
        )
    }

    /// A server's settings after `RESET ALL` or `DISCARD ALL`: what it does not report has its default again.
    public func withoutExtras(_ set: ParameterSet) -> ParameterSet {
        if set.parameters.allSatisfy(\.isReported) { return set }
        return self.intern(set.parameters.filter(\.isReported))
    }

    /// Entries, of which some may belong to sets that are gone.
    var count: Int { self.table.count }

    /// A set with other settings, by their keys. One set is made for all of them: what a packet or a server says may be
    /// long.
    private func replacing(_ changes: [String: Parameter], in set: ParameterSet) -> ParameterSet {
        if changes.isEmpty { return self.intern(set) }
        var parameters = set.parameters
        var added: [Parameter] = []
        for (key, parameter) in changes {
            if let found = set.position(key).found { parameters[found] = parameter } else { added.append(parameter) }
        }
        if !added.isEmpty {
            parameters += added
            parameters.sort { $0.key < $1.key }
        }
        return self.intern(parameters)
    }

    private func removing(_ keys: Set<String>, from set: ParameterSet) -> ParameterSet {
        self.intern(set.parameters.filter { !keys.contains($0.key) })
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
