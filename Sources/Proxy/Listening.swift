import Reactor
import Services
import Settings

/// Opens the sockets that clients connect to.
enum Listening {
    /// Binds every address of the settings, or takes over the sockets that the service manager has opened.
    ///
    /// - Throws: the first address that cannot be had; those before it are closed again.
    static func open(_ settings: GeneralSettings, inherited: [Int32]) throws(SystemError) -> [ListeningSocket] {
        if !inherited.isEmpty { return inherited.map { ListeningSocket(inherited: $0) } }
        var options = ListenOptions()
        options.backlog = settings.listenBacklog
        options.reusePort = settings.soReuseport
        options.deferAccept = settings.tcpDeferAccept ? 45 : 0
        options.unixMode = UInt32(settings.unixSocketMode)
        options.unixGroup = settings.unixSocketGroup
        var sockets: [ListeningSocket] = []
        do {
            for address in try Self.addresses(settings) { sockets.append(try ListeningSocket.open(address, options)) }
        } catch {
            for socket in sockets { socket.close() }
            throw error
        }
        return sockets
    }

    private static func addresses(_ settings: GeneralSettings) throws(SystemError) -> [SocketAddress] {
        let port = UInt16(clamping: settings.listenPort)
        var addresses: [SocketAddress] = []
        for name in settings.listenAddr {
            if name == "*" {
                addresses += SocketAddress.any(port: port)
            } else if let address = SocketAddress(ip: name, port: port) {
                addresses.append(address)
            } else {
                switch Resolver.addressesNow(of: name) {
                case .success(let found): addresses += found.map { $0.with(port: port) }
                case .failure(let error): throw SystemError("listen_addr: \(error.description)", code: 0)
                }
            }
        }
        if let path = settings.listenSocketPath {
            guard let address = SocketAddress(unix: path) else {
                throw SystemError("unix_socket_dir: the socket's path \(path) is too long", code: 0)
            }
            addresses.append(address)
        }
        return addresses
    }
}
