public import Authentication
import Synchronization

/// How many clients of each address are logging in, over all reactors. Asked once for each connection, so a lock will do.
public final class LoginPlaces: Sendable {
    /// One client that is logging in, as long as this object lives.
    public final class Place: Sendable {
        private let places: LoginPlaces
        private let network: ArraySlice<UInt8>

        fileprivate init(_ places: LoginPlaces, _ network: ArraySlice<UInt8>) {
            self.places = places
            self.network = network
        }

        deinit { self.places.give(self.network) }
    }

    private let counts = Mutex<[ArraySlice<UInt8>: Int]>([:])

    public init() {}

    /// Nil when the limit is reached; 0 is none.
    public func take(_ address: NetworkAddress, limit: Int) -> Place? {
        // Who has an IPv6 address mostly has all those of its network.
        let network = address.bytes.prefix(8)
        let isFree = self.counts.withLock { counts in
            let count = counts[network] ?? 0
            guard limit <= 0 || count < limit else { return false }
            counts[network] = count + 1
            return true
        }
        return isFree ? Place(self, network) : nil
    }

    private func give(_ network: ArraySlice<UInt8>) {
        self.counts.withLock { counts in
            let left = (counts[network] ?? 1) - 1
            counts[network] = left > 0 ? left : nil
        }
    }

    /// Addresses that have a client logging in.
    public var addresses: Int { self.counts.withLock { $0.count } }
}
