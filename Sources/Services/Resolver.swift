import CLinux
import Dispatch
import Glibc
public import Reactor
import Synchronization

/// Host names to addresses, off the event loops: `getaddrinfo` on threads of its own, one look-up at a time for a name,
/// answers kept for a while. Process-wide.
public final class Resolver: Sendable {
    /// A name that is known, for the console.
    public struct Entry: Sendable {
        public let name: String
        /// Until the entry is looked up anew, microseconds; negative when that is overdue.
        public let timeToLive: Int64
        public let addresses: [SocketAddress]
    }

    /// The addresses, or `getaddrinfo`'s word for why there are none.
    public typealias Answer = Result<[SocketAddress], ResolverError>

    private struct Name {
        var answer: Answer?
        var expires: MonotonicTime = 0
        var waiting: [@Sendable (Answer) -> Void] = []
        var isLookedUp = false
    }

    private struct State {
        var names: [String: Name] = [:]
        var maximumTTL: Int64
        var negativeTTL: Int64
    }

    private let state: Mutex<State>
    private let queue = DispatchQueue(label: "martlet.resolver", attributes: .concurrent)

    /// Times in microseconds (`dns_max_ttl`, `dns_nxdomain_ttl`).
    public init(maximumTTL: Int64, negativeTTL: Int64) {
        self.state = Mutex(State(maximumTTL: maximumTTL, negativeTTL: negativeTTL))
    }

    /// Changes how long answers are kept.
    public func configure(maximumTTL: Int64, negativeTTL: Int64) {
        self.state.withLock {
            $0.maximumTTL = maximumTTL
            $0.negativeTTL = negativeTTL
        }
    }

    /// Looks a name up. The answer comes at once, on this thread, when it is known; else later, on another. The
    /// addresses carry port 0.
    public func resolve(_ host: String, _ completion: @escaping @Sendable (Answer) -> Void) {
        if let address = SocketAddress(ip: host, port: 0) { return completion(.success([address])) }
        let now = monotonicNow()
        enum Next { case answer(Answer), wait, look }
        let next: Next = self.state.withLock { state in
            var name = state.names[host] ?? Name()
            if let answer = name.answer, now < name.expires { return .answer(answer) }
            name.waiting.append(completion)
            let isNew = !name.isLookedUp
            name.isLookedUp = true
            state.names[host] = name
            return isNew ? .look : .wait
        }
        switch next {
        case .answer(let answer): completion(answer)
        case .wait: return
        case .look: self.queue.async { self.lookUp(host) }
        }
    }

    /// A name is looked up anew when it is needed next, though its time is not over: what it has led to has failed.
    public func expire(_ host: String) {
        self.state.withLock { $0.names[host]?.expires = 0 }
    }

    private func lookUp(_ host: String) {
        let answer = Self.addresses(of: host)
        let now = monotonicNow()
        let (waiting, told): ([@Sendable (Answer) -> Void], Answer) = self.state.withLock { state in
            var name = state.names[host] ?? Name()
            switch (answer, name.answer) {
            case (.failure(let error), .success(let old)) where error.isTemporary:
                // The name server is out of order, not the name: what was right a moment ago is the best there is.
                name.answer = .success(old)
                name.expires = now + state.negativeTTL
            case (.failure, _):
                name.answer = answer
                name.expires = now + state.negativeTTL
            case (.success, _):
                name.answer = answer
                name.expires = now + state.maximumTTL
            }
            let waiting = name.waiting
            name.waiting = []
            name.isLookedUp = false
            state.names[host] = name
            return (waiting, name.answer ?? answer)
        }
        for completion in waiting { completion(told) }
    }

    /// Looks a name up on this thread, without the cache; for start-up only.
    public static func addressesNow(of host: String) -> Answer { self.addresses(of: host) }

    private static func addresses(of host: String) -> Answer {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        guard code == 0 else {
            let reason = String(cString: gai_strerror(code))
            return .failure(ResolverError(host: host, reason: reason, isTemporary: code == EAI_AGAIN))
        }
        var found: [SocketAddress] = []
        var entry = list
        while let info = entry {
            if let address = info.pointee.ai_addr {
                let converted = SocketAddress(address, length: Int(info.pointee.ai_addrlen))
                if !found.contains(converted) { found.append(converted) }
            }
            entry = info.pointee.ai_next
        }
        return .success(found)
    }

    /// What is known now.
    public func entries() -> [Entry] {
        let now = monotonicNow()
        return self.state.withLock { state in
            state.names.map { name, entry in
                var addresses: [SocketAddress] = []
                if case .success(let known)? = entry.answer { addresses = known }
                return Entry(name: name, timeToLive: entry.expires - now, addresses: addresses)
            }.sorted { $0.name < $1.name }
        }
    }
}

/// A name that could not be resolved.
public struct ResolverError: Error, Sendable, Equatable, CustomStringConvertible {
    public let host: String
    public let reason: String
    /// Whether another try may succeed (the name server did not answer).
    public let isTemporary: Bool
    public var description: String { "could not resolve \"\(self.host)\": \(self.reason)" }
}
