/// What is known of a cluster for longer than somebody watches its servers: what keeps an old primary from being taken for
/// the primary. Servers have the names that `Node.description` gives.
public struct ClusterMemory: Sendable, Equatable {
    /// The same on all servers of a cluster; nil if it may not be read.
    public var systemIdentifier: UInt64?
    /// The highest timeline that was seen on any of its servers; 0 is none.
    public var highestTimeline: UInt32 = 0
    /// The server that took writes last.
    public var primary: String?
    /// Fenced servers, and the timeline each was fenced on.
    public private(set) var fenced: [String: UInt32] = [:]

    /// More are not remembered: names of servers come and go where addresses do.
    static let mostFenced = 64

    /// Nothing is known.
    public init() {}

    /// A server is out of recovery beside the primary.
    public mutating func fence(_ server: String, on timeline: UInt32) {
        guard self.fenced[server] != timeline else { return }
        self.fenced[server] = timeline
        guard self.fenced.count > Self.mostFenced else { return }
        // The lowest timeline protects best without being remembered.
        if let oldest = self.fenced.min(by: { $0.value < $1.value })?.key { self.fenced[oldest] = nil }
    }

    /// A server is none that must be kept from writes.
    public mutating func free(_ server: String) {
        if self.fenced[server] != nil { self.fenced[server] = nil }
    }

    /// Adds what somebody else knows of the same cluster.
    public mutating func take(over other: ClusterMemory) {
        self.systemIdentifier = self.systemIdentifier ?? other.systemIdentifier
        if other.highestTimeline > self.highestTimeline || self.primary == nil {
            self.primary = other.primary ?? self.primary
        }
        self.highestTimeline = max(self.highestTimeline, other.highestTimeline)
        for (server, timeline) in other.fenced where self.fenced[server] == nil {
            self.fence(server, on: timeline)
        }
    }
}
