import DequeModule
import Reactor

/// Clients in the middle of their login that wait for a server connection, in the order of their arrival. The place of one
/// that has left is kept until it is swept, so that a crowd that leaves at once costs no more than it did to come.
struct LoginQueue {
    struct Place {
        let client: ClientSession
        /// Wants a connection of its own.
        let replication: ServerSession.Replication?

        var isGivenUp: Bool { self.client.login == nil }
    }

    private var places = Deque<Place>()
    private(set) var count = 0

    var isEmpty: Bool { self.count == 0 }

    mutating func append(_ place: Place) {
        self.places.append(place)
        self.count += 1
    }

    mutating func prepend(_ place: Place) {
        self.places.prepend(place)
        self.count += 1
    }

    /// A client in here has gone.
    mutating func left() {
        self.count -= 1
        if self.places.count > 2 * self.count + 64 { self.places.removeAll(where: \.isGivenUp) }
    }

    /// The first that is still there.
    mutating func popFirst() -> Place? {
        while let place = self.places.popFirst() {
            guard !place.isGivenUp else { continue }
            self.count -= 1
            place.client.waitsIn = nil
            return place
        }
        return nil
    }

    /// Takes out all, or those that have waited since a time or longer.
    mutating func takeAll(waitingSince time: MonotonicTime = .max) -> [ClientSession] {
        guard !self.places.isEmpty else { return [] }
        let all = self.places
        self = LoginQueue()
        var taken: [ClientSession] = []
        for place in all where !place.isGivenUp {
            if place.client.waitingSince <= time {
                place.client.waitsIn = nil
                taken.append(place.client)
            } else {
                self.append(place)
            }
        }
        return taken
    }
}
