public import Wire

/// Why a server connection could not be had or was lost, and what its clients are told.
public struct ServerError: Error, Sendable, Equatable {
    public var message: String
    public var sqlState: String
    /// The server has answered and refused: trying again soon gives the same, and other clients of the pool need not
    /// wait for it.
    public var isRefusal = false

    /// The server's own words, from an ErrorResponse during login.
    public init(refusedBy fields: ErrorFields) {
        self.message = fields.message
        self.sqlState = fields.sqlState
        switch fields.sqlState {
        case SQLState.cannotConnectNow, SQLState.tooManyConnections, SQLState.adminShutdown, SQLState.crashShutdown:
            // Starting, stopping or full: passes by itself, so clients wait.
            self.isRefusal = false
        default: self.isRefusal = true
        }
    }

    public init(message: String, sqlState: String, isRefusal: Bool = false) {
        self.message = message
        self.sqlState = sqlState
        self.isRefusal = isRefusal
    }

    /// A message from a client whose length cannot be; shows its type and length as PgBouncer does.
    public static func badPacketHeader(_ bytes: Span<UInt8>, at cursor: Int) -> ServerError {
        var header = ""
        for index in cursor..<min(cursor + MessageFramer.headerLength, bytes.count) {
            let digits = String(bytes[index], radix: 16)
            header += digits.utf8.count < 2 ? "0\(digits)" : digits
        }
        return ServerError(message: "bad packet header: '\(header)'", sqlState: SQLState.protocolViolation)
    }

    public static let databaseRemoved = ServerError(message: "database removed", sqlState: SQLState.adminShutdown)
    public static let serverShuttingDown = ServerError(
        message: "server shutting down", sqlState: SQLState.adminShutdown)

    /// For clients that come before the next try.
    public var whileRetrying: ServerError {
        var error = self
        error.message = "server login has been failing, cached error: \(self.message) (server_login_retry)"
        return error
    }
}
