public import Wire

/// The settings of a session, followed by what its server reports.
///
/// A report is taken over when somebody asks for the settings, or when there are many: each set costs as much as all its
/// settings together, and a server, or a client's function on it, can report a change with every few bytes.
public struct FollowedParameters {
    private var set: ParameterSet
    private var reports: [ParameterStatus] = []
    private var bytes = 0

    private static let mostReports = 64
    private static let mostBytes = 16 << 10

    public init(_ set: ParameterSet) { self.set = set }

    /// The settings as of now. The table is the reactor's.
    @inline(__always)
    public mutating func current(_ table: ParameterTable) -> ParameterSet {
        if !self.reports.isEmpty { self.takeOver(table) }
        return self.set
    }

    /// Whether both are the same without a doubt; not when reports have to be taken over first.
    @inline(__always)
    public func isSurely(_ other: borrowing FollowedParameters) -> Bool {
        self.set === other.set && self.reports.isEmpty && other.reports.isEmpty
    }

    /// A server has reported a setting.
    ///
    /// - Throws: `ParameterError.tooMany`; the session cannot be followed any further.
    public mutating func note(_ status: ParameterStatus, _ table: ParameterTable) throws(ParameterError) {
        self.reports.append(status)
        self.bytes += status.name.utf8.count + status.value.count
        guard self.reports.count >= Self.mostReports || self.bytes >= Self.mostBytes else { return }
        self.set = try table.reported(self.reports, in: self.set)
        self.reports.removeAll(keepingCapacity: true)
        self.bytes = 0
    }

    @inline(never)
    private mutating func takeOver(_ table: ParameterTable) {
        // What is too much is found by `note`, which sees every report.
        if let set = try? table.reported(self.reports, in: self.set) { self.set = set }
        self.reports = []
        self.bytes = 0
    }
}
