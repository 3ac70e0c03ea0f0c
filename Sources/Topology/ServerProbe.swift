import Routing

/// A connection to one server with the questions a monitor asks it.
final class ServerProbe {
    /// What does not change while the connection lasts.
    struct Identity {
        var systemIdentifier: UInt64?
        var startTime: String
        var blockSize: UInt64
        var segmentSize: UInt64
        /// Whether the timeline that a replica receives may be seen (`pg_monitor`).
        var seesReceiver: Bool
        /// The highest timeline of which a replica has log; 0 is unknown.
        var timeline: UInt32
    }

    /// What one question has brought.
    struct Answer: Equatable {
        var isInRecovery: Bool
        /// Out of recovery the insert position without a page header, in recovery the replay position; nil if there is
        /// none.
        var position: UInt64?
        /// Out of recovery how much of it is flushed, and so can have been sent to a replica; nil if it is not known.
        var flushed: UInt64?
        /// False if what is flushed ends with a page, which may be in the middle of a record.
        var flushedEndsRecord = true
        /// 0 is unknown.
        var timeline: UInt32
    }

    let identity: Identity
    private let connection: MonitorConnection
    /// The highest timeline that was seen on this connection. A running server never goes back to an older one.
    private var timeline: UInt32

    /// Connects and finds out who it is.
    init(connection: MonitorConnection, timeout: Int64, deadline: Int64) throws(MonitorConnection.Failure) {
        self.connection = connection
        let identity: Identity
        do {
            identity = try Self.prepare(connection, timeout, deadline, controlData: true)
        } catch .refused(state: "42501", _) {
            // Some providers keep pg_control_*() from their users. What a replica's receiver says is enough mostly.
            identity = try Self.prepare(connection, timeout, deadline, controlData: false)
        }
        self.identity = identity
        self.timeline = identity.timeline
    }

    private static func prepare(
        _ connection: MonitorConnection, _ timeout: Int64, _ deadline: Int64, controlData: Bool
    ) throws(MonitorConnection.Failure) -> Identity {
        let rows = try connection.query(
            """
            DEALLOCATE ALL;
            SET statement_timeout = \(max(1, timeout / 1000));
            PREPARE martlet_poll AS \(self.question(timelineInRecovery: self.received));
            PREPARE martlet_check AS \(self.question(timelineInRecovery: controlData ? self.control : self.received));
            SELECT \(controlData ? "(SELECT system_identifier FROM pg_catalog.pg_control_system())" : "NULL"),
                pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()),
                pg_catalog.current_setting('wal_block_size'),
                pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
                pg_catalog.pg_has_role('pg_read_all_stats', 'usage')
            """, deadline: deadline)
        guard let row = rows.first, row.count == 5 else { throw .lost("an answer of unexpected form") }
        let timeline = try Self.timelineOfLog(connection, deadline)
        return Identity(
            systemIdentifier: row[0].flatMap { UInt64($0) }, startTime: row[1] ?? "",
            blockSize: row[2].flatMap { UInt64($0) } ?? 8192, segmentSize: row[3].flatMap { UInt64($0) } ?? 16 << 20,
            seesReceiver: row[4] == "t", timeline: timeline)
    }

    /// The highest timeline of the segments that a replica has.
    ///
    /// A replica that has followed a new primary and lost it again shows neither in its control file, until the next
    /// restartpoint, nor by a receiver what it has replayed; its segments do. Without this a Martlet that is started
    /// while the new primary is down could take the old one for the primary.
    private static func timelineOfLog(
        _ connection: MonitorConnection, _ deadline: Int64
    ) throws(MonitorConnection.Failure) -> UInt32 {
        do {
            let rows = try connection.query(
                """
                SELECT pg_catalog.max(pg_catalog.left(name, 24)) FROM pg_catalog.pg_ls_waldir()
                WHERE name ~ '^[0-9A-F]{24}(\\.partial)?$' AND pg_catalog.pg_is_in_recovery()
                """, deadline: deadline)
            return rows.first?.first?.flatMap { $0 }.flatMap { WALPosition.timeline(ofSegment: $0) } ?? 0
        } catch .refused {
            // Not a member of pg_monitor.
            return 0
        }
    }

    private static let received = "(SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver)"
    // The control file is read for these, so they are asked once in a check interval only.
    private static let control = """
        greatest(\(ServerProbe.received), (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),
            (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()))
        """

    // Whether the server is in recovery is found out once and first, so that the positions belong to that answer: the
    // volatile functions and OFFSET 0 keep the planner from merging the levels. What is flushed is asked before what is
    // inserted, and so is never more.
    private static func question(timelineInRecovery: String) -> String {
        """
        SELECT p.r, p.position, CASE WHEN p.r THEN NULL ELSE pg_catalog.pg_walfile_name(p.position) END,
            CASE WHEN p.r THEN \(timelineInRecovery) END, p.flushed
        FROM (SELECT f.r, f.flushed, CASE WHEN f.r THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_insert_lsn() END AS position
            FROM (SELECT s.r, CASE WHEN NOT s.r THEN pg_catalog.pg_current_wal_flush_lsn() END AS flushed
                FROM (SELECT pg_catalog.pg_is_in_recovery() AS r OFFSET 0) AS s OFFSET 0) AS f OFFSET 0) AS p
        """
    }

    /// Role, position and timeline; with `isFull` also the timeline from the control file.
    func ask(isFull: Bool, deadline: Int64) throws(MonitorConnection.Failure) -> Answer {
        let rows = try self.connection.query(
            isFull ? "EXECUTE martlet_check" : "EXECUTE martlet_poll", deadline: deadline)
        guard let row = rows.first, row.count == 5, let isInRecovery = row[0] else {
            throw .lost("an answer of unexpected form")
        }
        let position = row[1].flatMap { WALPosition.parse($0) }
        guard isInRecovery != "t" else {
            self.timeline = max(self.timeline, row[3].flatMap { UInt32($0) } ?? 0)
            return Answer(isInRecovery: true, position: position, flushed: nil, timeline: self.timeline)
        }
        self.timeline = row[2].flatMap { WALPosition.timeline(ofSegment: $0) } ?? 0
        let flushed = self.withoutPageHeader(row[4].flatMap { WALPosition.parse($0) })
        return Answer(
            isInRecovery: false, position: self.withoutPageHeader(position), flushed: flushed,
            flushedEndsRecord: (flushed ?? 0) % max(1, self.identity.blockSize) != 0, timeline: self.timeline)
    }

    private func withoutPageHeader(_ position: UInt64?) -> UInt64? {
        position.map {
            WALPosition.withoutPageHeader(
                $0, blockSize: self.identity.blockSize, segmentSize: self.identity.segmentSize)
        }
    }

    /// Waits until the thread is woken or the time has come.
    func idle(until deadline: Int64) throws(MonitorConnection.Failure) {
        try self.connection.idle(until: deadline)
    }
}
