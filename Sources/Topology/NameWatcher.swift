import CLinux
import Glibc
import Logging
import Settings

/// Looks a host name up again and again, on a thread of its own: a name service that hangs delays nothing else.
final class NameWatcher {
    private let core: MonitorCore
    private let host: HostAddress
    private let waker: Waker
    private var lastError: String?

    /// Between two look-ups that failing nodes ask for, and of a name that is not known, microseconds.
    private static let shortestInterval: Int64 = 1_000_000
    private static let longestInterval: Int64 = 86_400_000_000
    /// Further addresses of one name are left out.
    private static let maximumAddresses = 16

    init(core: MonitorCore, host: HostAddress, waker: Waker) {
        self.core = core
        self.host = host
        self.waker = waker
    }

    func run() {
        let host = self.host
        while !self.core.isStopped, self.core.update({ $0.watches(name: host) }) {
            let begun = monotonicNow()
            switch Self.addresses(of: host.host) {
            case .addresses(let found):
                self.lastError = nil
                self.core.setAddresses(found, of: host)
            case .failed(let reason):
                // The addresses of before are the best there is.
                if self.lastError != reason {
                    self.core.log(.error, "host name \"\(host.host)\" cannot be resolved: \(reason)")
                }
                self.lastError = reason
                self.core.update { $0.unresolvable(host, now: monotonicNow()) }
            }
            // A name that is not known is looked up more often: nothing works without it.
            let usual = min(self.core.settings.nameInterval, Self.longestInterval)
            let interval = self.lastError == nil ? usual : Self.shortestInterval
            self.waker.wait(until: begun + interval)
            while !self.core.isStopped, monotonicNow() < begun + Self.shortestInterval {
                self.waker.wait(until: begun + Self.shortestInterval)
            }
        }
    }

    enum Answer: Equatable {
        case addresses([String])
        case failed(String)
    }

    /// The addresses of a name in numbers, sorted, so that the order in which a name server tells them changes nothing.
    static func addresses(of host: String) -> Answer {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        guard code == 0 else { return .failed(String(cString: gai_strerror(code))) }
        var found: Set<String> = []
        var entry = list
        while let info = entry {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let length = socklen_t(text.count)
            if getnameinfo(info.pointee.ai_addr, info.pointee.ai_addrlen, &text, length, nil, 0, NI_NUMERICHOST) == 0 {
                found.insert(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
            }
            entry = info.pointee.ai_next
        }
        return .addresses(Array(found.sorted().prefix(Self.maximumAddresses)))
    }
}
