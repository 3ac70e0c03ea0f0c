import CLDAP
import Dispatch
import Glibc
import Reactor
import Synchronization

/// Ends the connection of a step that takes too long. libldap's own limits do not hold while TLS begins: it reads then
/// until the other side has spoken.
final class LDAPWatch: Sendable {
    private struct State {
        /// Our own copy of the connection's descriptor: libldap closes its own when it likes, and the number may be another
        /// connection's at once.
        var descriptor: CInt = -1
        var isOver = false
    }

    private let state = Mutex(State())
    private static let queue = DispatchQueue(label: "martlet.ldap")

    deinit {
        let descriptor = self.state.withLock { $0.descriptor }
        if descriptor >= 0 { close(descriptor) }
    }

    /// Calls something, and has it fail when it takes longer than `time` microseconds.
    func limit(_ time: Int, _ call: () -> CInt) -> CInt {
        // Weakly, for the queue keeps what is cancelled until its time has come, and the connection is to be gone by then.
        let end = DispatchWorkItem { [weak self] in
            self?.state.withLock { state in
                state.isOver = true
                if state.descriptor >= 0 { Socket.cut(state.descriptor) }
            }
        }
        Self.queue.asyncAfter(deadline: .now() + .microseconds(time), execute: end)
        defer { end.cancel() }
        return call()
    }

    /// A connection has been made.
    private func watch(_ descriptor: CInt) {
        self.state.withLock { state in
            if state.descriptor >= 0 { close(state.descriptor) }
            state.descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
            // Better no connection than one without an end.
            if state.isOver || state.descriptor < 0 { Socket.cut(descriptor) }
        }
    }

    /// What libldap calls with each new connection, before it says a word. The watch must outlive its use.
    func makeCallbacks() -> ldap_conncb {
        ldap_conncb(
            lc_add: { _, socket, _, _, callbacks in
                guard let watch = callbacks?.pointee.lc_arg else { return 0 }
                var descriptor: CInt = -1
                ber_sockbuf_ctrl(socket, CInt(LBER_SB_OPT_GET_FD), &descriptor)
                Unmanaged<LDAPWatch>.fromOpaque(watch).takeUnretainedValue().watch(descriptor)
                return 0
            },
            lc_del: { _, _, _ in },
            lc_arg: Unmanaged.passUnretained(self).toOpaque())
    }
}
