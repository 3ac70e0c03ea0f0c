package import Wire

/// Why a server connection could not be had or was lost, and what its clients are told.
package struct ServerError: Error, Sendable, Equatable {
    package var message: String
    package var sqlState: String
    /// The server has answered and refused: trying again soon gives the same, and other clients of the pool need not
    /// wait for it.
    package var isRefusal = false

    /// The server's own words, from an ErrorResponse during login.
    package init(refusedBy fields: ErrorFields) {
        self.message = fields.message
        self.sqlState = fields.sqlState
        switch fields.sqlState {
        case SQLState.cannotConnectNow, SQLState.tooManyConnections, SQLState.adminShutdown, SQLState.crashShutdown:
            // Starting, stopping or full: passes by itself, so clients wait.
            self.isRefusal = false
        default: self.isRefusal = true
        }
    }

    package init(message: String, sqlState: String, isRefusal: Bool = false) {
        self.message = message
        self.sqlState = sqlState
        self.isRefusal = isRefusal
    }

    /// A message from a client whose length cannot be; shows its type and length as PgBouncer does.
    package static func badPacketHeader(_ bytes: Span<UInt8>, at cursor: Int) -> ServerError {
        var header = ""
        for index in cursor..<min(cursor + MessageFramer.headerLength, bytes.count) {
            let digits = String(bytes[index], radix: 16)
            header += digits.utf8.count < 2 ? "0\(digits)" : digits
        }
        return ServerError(message: "bad packet header: '\(header)'", sqlState: SQLState.protocolViolation)
    }

    package static let databaseRemoved = ServerError(message: "database removed", sqlState: SQLState.adminShutdown)
    package static let serverShuttingDown = ServerError(
        message: "server shutting down", sqlState: SQLState.adminShutdown)

    /// For clients that come before the next try.
    package var whileRetrying: ServerError {
        var error = self
        error.message = "server login has been failing, cached error: \(self.message) (server_login_retry)"
        return error
    }
}
