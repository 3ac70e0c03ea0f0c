import Proxy
import Wire

// SHOW CLIENTS, SERVERS, SOCKETS and ACTIVE_SOCKETS: the same columns, the latter two with buffers.

extension Table {
    static func clients(_ clients: [ClientStatus]) -> Table {
        var table = Table(Self.connectionColumns(largestID: clients.map(\.id).max()))
        for client in clients.sorted(by: { $0.id < $1.id }) where client.state != .login {
            table.add(client.row(type: "C", state: client.state.rawValue))
        }
        return table
    }

    static func servers(_ servers: [ServerStatus]) -> Table {
        var table = Table(Self.connectionColumns(largestID: servers.map(\.id).max()))
        for server in servers.sorted(by: { $0.id < $1.id }) {
            table.add(server.row(type: "S", state: server.state.rawValue))
        }
        return table
    }

    /// - Parameter activeOnly: ACTIVE_SOCKETS: those with something in a buffer.
    static func sockets(_ clients: [ClientStatus], _ servers: [ServerStatus], activeOnly: Bool) -> Table {
        let largestID = max(clients.map(\.id).max() ?? 0, servers.map(\.id).max() ?? 0)
        var table = Table(Self.connectionColumns(largestID: largestID) + Self.bufferColumns)
        for client in clients.sorted(by: { $0.id < $1.id }) where !activeOnly || client.isBusy {
            let row = client.row(type: "C", state: Self.socketState(client.state))
            table.add(row + client.buffers)
        }
        for server in servers.sorted(by: { $0.id < $1.id }) where !activeOnly || server.isBusy {
            let row = server.row(type: "S", state: Self.socketState(server.state))
            table.add(row + server.buffers)
        }
        return table
    }

    private static func connectionColumns(largestID: UInt64?) -> [RowColumn] {
        [
            .text("type"), .text("user"), .text("database"), .text("replication"), .text("state"),
            .text("addr"), .int4("port"), .text("local_addr"), .int4("local_port"),
            .text("connect_time"), .text("request_time"), .int4("wait"), .int4("wait_us"), .int4("close_needed"),
            .text("ptr"), .text("link"), .int4("remote_pid"), .text("tls"), .text("application_name"),
            .int4("prepared_statements"),
            // PgBouncer's type is int4, which a busy pooler outgrows in weeks; drivers refuse a larger number in it.
            largestID ?? 0 > UInt64(Int32.max) ? .int8("id") : .int4("id"),
        ]
    }

    private static let bufferColumns: [RowColumn] = [
        .int4("recv_pos"), .int4("pkt_pos"), .int4("pkt_remain"), .int4("send_pos"), .int4("send_remain"),
        .int4("pkt_avail"), .int4("send_avail"),
    ]

    private static func socketState(_ state: ClientState) -> String {
        switch state {
        case .active, .idle: "cl_active"
        case .waiting: "cl_waiting"
        case .login: "cl_login"
        case .activeCancelRequest: "cl_active_cancel_req"
        case .waitingCancelRequest: "cl_waiting_cancel_req"
        }
    }

    private static func socketState(_ state: ServerState) -> String {
        switch state {
        case .login: "sv_login"
        case .active, .idle, .used, .tested, .activeCancel, .beingCanceled: "sv_\(state.rawValue)"
        }
    }
}

extension ConnectionStatus {
    fileprivate func row(type: String, state: String) -> [String?] {
        [
            type,
            self.user.isEmpty ? "(nouser)" : self.user,
            self.database.isEmpty ? "(nodb)" : self.database,
            self.replication,
            state,
            self.address,
            .int4(self.port),
            self.localAddress,
            .int4(self.localPort),
            LocalTime.text(self.connectTime),
            LocalTime.text(self.requestTime),
            .int4(Int(self.wait / 1_000_000)),
            .int4(Int(self.wait % 1_000_000)),
            .int4(self.closeNeeded),
            .pointer(self.id),
            self.link.map { .pointer($0) } ?? "",
            .int4(Int(self.remotePID)),
            self.tls,
            self.applicationName,
            .int4(self.preparedStatements),
            String(self.id),
        ]
    }

    fileprivate var isBusy: Bool { self.gathered > 0 || self.streaming > 0 || self.unsent > 0 }

    /// A buffer here begins with its first byte, so that positions are lengths and starts are 0.
    fileprivate var buffers: [String?] {
        [
            .int4(self.gathered), "0", .int4(self.streaming), "0", .int4(self.unsent),
            .int4(self.gathered), .int4(self.unsent),
        ]
    }
}
