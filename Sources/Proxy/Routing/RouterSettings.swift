import SQL
import Settings
import Wire

/// The settings `martlet.…` of one client, which behave as PostgreSQL's own: SET in a transaction ends with its ROLLBACK,
/// SET LOCAL with the transaction, ROLLBACK TO takes back what came behind the savepoint, and RESET goes back to what the
/// startup packet has said.
struct RouterSettings {
    struct Values: Equatable {
        var route: RouteOverride?
        var readAfterWrite: ReadAfterWrite?
        var sessionKey: String?
        /// 0 is none.
        var minimumPosition: UInt64 = 0
    }

    /// Where a setting is changed.
    enum Place {
        /// By itself.
        case alone
        /// Together with other statements of one request: an error among them takes it back.
        case request
        case transaction
    }

    /// Those in force.
    private(set) var current = Values()
    /// Those that the client came with.
    private var start = Values()
    /// What has been changed and may be taken back, until it is known how that ends.
    private var block: Block?

    private final class Block {
        let before: Values
        /// What is left when SET LOCAL has ended.
        var session: Values
        var savepoints: [Savepoint] = []
        /// A transaction; else it ends with the request.
        var isTransaction = false
        var hasFailed = false

        init(before: Values) {
            self.before = before
            self.session = before
        }
    }

    private struct Savepoint {
        let name: String
        let session: Values
        let current: Values
    }

    /// Savepoints within each other that are followed; the server has a stack of them for each.
    private static let mostSavepoints = 1000

    /// The client has changed something, and may want it to be as it was.
    var areUsed: Bool { self.isOpen || self.current != self.start }
    /// Something may have to be taken back.
    var isOpen: Bool { self.block != nil }
    /// There are more savepoints than are followed: what is changed now could not be taken back.
    var isTooDeep: Bool { (self.block?.savepoints.count ?? 0) >= Self.mostSavepoints }

    /// The startup packet has been read.
    mutating func begin(with values: Values) {
        self.start = values
        self.current = values
    }

    // MARK: Changes

    mutating func set(isLocal: Bool, _ place: Place, _ change: (inout Values) -> Void) {
        guard place != .alone else {
            if !isLocal { change(&self.current) }
            return
        }
        let block = self.open(place)
        if !isLocal { change(&block.session) }
        change(&self.current)
    }

    /// RESET of one of them.
    mutating func reset(isLocal: Bool, _ place: Place, _ field: (inout Values, Values) -> Void) {
        let start = self.start
        self.set(isLocal: isLocal, place) { field(&$0, start) }
    }

    /// RESET ALL.
    mutating func resetAll(_ place: Place) {
        let start = self.start
        self.set(isLocal: false, place) { $0 = start }
    }

    private mutating func open(_ place: Place) -> Block {
        let block = self.block ?? Block(before: self.current)
        self.block = block
        if place == .transaction { block.isTransaction = true }
        return block
    }

    // MARK: Savepoints

    /// - Parameter place: a transaction, perhaps one that begins with the request.
    mutating func apply(_ effect: SettingsEffect, _ place: Place) {
        // In a transaction that has failed nothing else has an effect.
        if self.block?.hasFailed ?? false {
            guard case .rollback = effect else { return }
        }
        switch effect {
        case .resetAll: self.resetAll(place)
        case .savepoint(let name):
            let block = self.open(.transaction)
            guard block.savepoints.count < Self.mostSavepoints else { return }
            block.savepoints.append(Savepoint(name: name, session: block.session, current: self.current))
        case .rollback(to: let name):
            guard let block = self.block else { return }
            block.hasFailed = false
            guard let index = block.savepoints.lastIndex(where: { $0.name == name }) else {
                // It is older than all that is known of the transaction.
                block.session = block.before
                self.current = block.before
                return block.savepoints.removeAll()
            }
            block.session = block.savepoints[index].session
            self.current = block.savepoints[index].current
            block.savepoints.removeSubrange((index + 1)...)
        case .release(let name):
            guard let block = self.block, let index = block.savepoints.lastIndex(where: { $0.name == name }) else {
                return
            }
            block.savepoints.removeSubrange(index...)
        }
    }

    // MARK: The end

    mutating func commit() {
        guard let block = self.block else { return }
        self.current = block.session
        self.block = nil
    }

    mutating func rollback() {
        guard let block = self.block else { return }
        self.current = block.before
        self.block = nil
    }

    /// An error has been sent to the client.
    func noteError() { self.block?.hasFailed = true }

    /// The request is over, and says whether a transaction is open. One that has ended otherwise than by COMMIT, which was
    /// told by `commit`, has been rolled back; so has one that had failed and goes on (COMMIT AND CHAIN).
    mutating func requestEnded(_ status: TransactionStatus) {
        guard let block = self.block else { return }
        if status == .inTransaction && block.isTransaction && block.hasFailed {
            self.rollback()
        } else if status != .idle {
            block.isTransaction = true
        } else if block.isTransaction || block.hasFailed {
            self.rollback()
        } else {
            self.commit()
        }
    }
}
