public import Settings
public import Synchronization

/// One PostgreSQL server of a cluster, as all threads see it: names that never change and numbers that the control
/// plane publishes. Readers take each number by itself, without a lock.
public final class Node: Sendable {
    /// What a server is, as far as it is known.
    public enum Role: UInt8, Sendable {
        /// It has not answered yet.
        case unknown
        case primary
        case replica
        /// Out of recovery beside a primary of a higher timeline: it takes nothing.
        case fenced
        /// Its system identifier is another: not of this cluster, it takes nothing.
        case foreign
    }

    /// The name or address in the file; for a Unix socket its folder.
    public let host: String
    public let port: Int
    /// One of the addresses of `host`, in numbers; nil for a Unix socket.
    public let address: String?

    private let roleValue = Atomic<UInt8>(Role.unknown.rawValue)
    /// Answers its monitor's questions in time.
    public let isUp = Atomic<Bool>(false)
    /// A replica that is up, on the primary's timeline as far as is known, and within the lag limits: it takes reads.
    public let takesReads = Atomic<Bool>(false)
    /// The newest sample it has caught up to; 0 is none. Samples are numbered from 1 (`Cluster.samples`).
    public let caughtUp = Atomic<UInt64>(0)
    /// A primary's insert position or a replica's replay position, bytes of write-ahead log.
    public let position = Atomic<UInt64>(0)
    /// How far a replica is behind, microseconds: the age of the newest sample of which it has replayed all that was
    /// flushed, and so could be sent. `.max`: unknown.
    public let lag = Atomic<Int64>(.max)
    /// Bytes of write-ahead log behind what was flushed at the newest sample.
    public let lagBytes = Atomic<UInt64>(0)
    /// Since when it has been up after it was down (monotonic microseconds); 0 if it never was down. Its share of
    /// the reads grows from then on.
    public let upSince = Atomic<Int64>(0)
    public let timeline = Atomic<UInt32>(0)
    /// The number that parts what was read from it before its monitor's connection was new from what was read later;
    /// `.max` while there is none. What was read before may have been newer than what it has now: it may have been
    /// started again from an older state, or be another server.
    public let knownSince = Atomic<UInt64>(0)

    private let refusalText = Mutex<String?>(nil)

    public init(host: String, port: Int, address: String?) {
        self.host = host
        self.port = port
        self.address = address
        let place = HostAddress(host: host, port: port)
        self.name = address.map { $0 == host ? place.description : "\(host)(\($0)):\(port)" } ?? place.description
    }

    /// Where it stands in a database's host list. Addresses of one name have the same.
    public var place: HostAddress { HostAddress(host: self.host, port: self.port) }

    /// Why its monitor may not ask it, in the server's words; nil if it may.
    public var refusal: String? { self.refusalText.withLock { $0 } }
    /// For the control plane.
    public func setRefusal(_ text: String?) { self.refusalText.withLock { $0 = text } }

    /// Who sees a new role also sees `caughtUp` as it was set before it: 0 after a change of primary.
    public var role: Role { Role(rawValue: self.roleValue.load(ordering: .acquiring)) ?? .unknown }
    /// For the control plane.
    public func setRole(_ role: Role) { self.roleValue.store(role.rawValue, ordering: .releasing) }

    /// What it is known by, also to a monitor that comes later: `description`.
    public let name: String

    /// "pg1:5432", with the address when `host` is a name; the socket's path for a Unix socket.
    public var description: String { self.name }
}
