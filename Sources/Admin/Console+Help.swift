import Wire

extension Console {
    /// SHOW HELP: a notice, as in PgBouncer, so that it reads well in psql.
    static func writeHelp(to answer: inout MessageWriter) {
        let lines = [
            "SHOW HELP|VERSION|STATE|CONFIG|LISTS|MEM",
            "SHOW DATABASES|POOLS|USERS|PEERS|PEER_POOLS",
            "SHOW CLIENTS|SERVERS|SOCKETS|ACTIVE_SOCKETS",
            "SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS",
            "SHOW DNS_HOSTS|DNS_ZONES",
            "SHOW NODES|ROUTES",
            "EXPLAIN ROUTE [FOR <database>] <statement>",
            "SHOW <setting>",
            "SET <setting> = <value>",
            "RELOAD",
            "PAUSE [<database>]",
            "RESUME [<database>]",
            "DISABLE <database>",
            "ENABLE <database>",
            "RECONNECT [<database>]",
            "FORGET <database>",
            "WAIT_CLOSE [<database>]",
            "KILL [<database>]",
            "KILL_CLIENT <id>",
            "SHUTDOWN",
            "SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS",
        ]
        answer.noticeResponse(
            severity: "NOTICE", sqlState: SQLState.successfulCompletion, message: "Console usage",
            detail: lines.map { "\n\t\($0)" }.joined())
        answer.commandComplete("SHOW")
    }
}
