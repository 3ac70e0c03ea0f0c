import Routing
import Settings
import Synchronization
import Testing

@Suite struct CausalityTests {
    private typealias Obstacle = Causality.Obstacle

    @Test func withoutHistoryEveryStateWillDo() {
        #expect(Causality().obstacle(node("a"), mode: .lsn) == nil)
        #expect(!Causality().isWithinWindow(1_000_000, now: 0))
    }

    /// The sample in hand may have been taken before the write: only those begun after it cover it.
    @Test(arguments: [(0, Obstacle.write), (6, .write), (7, .write), (8, nil), (900, nil)] as [(UInt64, Obstacle?)])
    func aWriteDemandsALaterSample(caughtUp: UInt64, expected: Causality.Obstacle?) {
        let causality = Causality()
        causality.wrote(generation: 7, now: 0)
        let replica = node("a", caughtUp: caughtUp)
        #expect(causality.obstacle(replica, mode: .lsn) == expected)
        #expect(causality.obstacle(replica, mode: .off) == nil)
        #expect(causality.obstacle(replica, mode: .window) == nil)
    }

    @Test func theLastWriteCounts() {
        let causality = Causality()
        causality.wrote(generation: 3, now: 0)
        causality.wrote(generation: 9, now: 0)
        #expect(causality.obstacle(node("a", caughtUp: 9), mode: .lsn) == .write)
        #expect(causality.obstacle(node("a", caughtUp: 10), mode: .lsn) == nil)
    }

    /// A replica that is started again, or follows another primary, has caught up to nothing.
    @Test func aReplicaThatStartsAnewHasToCatchUpAgain() {
        let causality = Causality()
        causality.wrote(generation: 3, now: 0)
        let replica = node("a", caughtUp: 10)
        #expect(causality.obstacle(replica, mode: .lsn) == nil)
        replica.caughtUp.store(0, ordering: .relaxed)
        #expect(causality.obstacle(replica, mode: .lsn) == .write)
    }

    @Test func aReadBindsToItsNodeUntilOthersHaveCaughtUp() {
        let (a, b) = (node("a", caughtUp: 5), node("b", caughtUp: 5))
        let causality = Causality()
        causality.read(from: a, generation: 5)
        #expect(causality.obstacle(a, mode: .lsn) == nil)
        #expect(causality.obstacle(b, mode: .lsn) == .read)
        #expect(causality.obstacle(b, mode: .off) == nil)
        b.caughtUp.store(6, ordering: .relaxed)
        #expect(causality.obstacle(b, mode: .lsn) == nil)
        causality.read(from: b, generation: 6)
        #expect(causality.obstacle(a, mode: .lsn) == .read)
        #expect(causality.obstacle(b, mode: .lsn) == nil)
    }

    /// It may have come back from an older state.
    @Test func aNodeThatIsNewDoesNotStandForWhatItShowedBefore() {
        let a = node("a", caughtUp: 5)
        let causality = Causality()
        causality.read(from: a, generation: 5)
        #expect(causality.obstacle(a, mode: .lsn) == nil)
        for since: UInt64 in [.max, 6] {
            a.knownSince.store(since, ordering: .relaxed)
            #expect(causality.obstacle(a, mode: .lsn) == .read)
        }
        // What is read from it from now on is its own again.
        causality.read(from: a, generation: 6)
        #expect(causality.obstacle(a, mode: .lsn) == nil)
        a.knownSince.store(9, ordering: .relaxed)
        a.caughtUp.store(7, ordering: .relaxed)
        #expect(causality.obstacle(a, mode: .lsn) == nil, "it has caught up to all that was read")
    }

    @Test func aReadDoesNotExcuseAWrite() {
        let a = node("a", caughtUp: 5)
        let causality = Causality()
        causality.read(from: a, generation: 5)
        causality.wrote(generation: 5, now: 0)
        #expect(causality.obstacle(a, mode: .lsn) == .write)
    }

    @Test func windowIsTimeSinceTheLastWrite() {
        let causality = Causality()
        causality.wrote(generation: 1, now: 1_000)
        #expect(causality.isWithinWindow(500, now: 1_499))
        #expect(!causality.isWithinWindow(500, now: 1_500))
        #expect(!causality.isWithinWindow(0, now: 1_000))
        causality.wrote(generation: 1, now: 1_400)
        #expect(causality.isWithinWindow(500, now: 1_899))
    }

    @Test func windowHoldsAtTheBeginningOfTimeToo() {
        #expect(!Causality().isWithinWindow(.max, now: 5))
    }

    @Test(arguments: [(999, Obstacle.write), (1000, nil), (1001, nil)] as [(UInt64, Obstacle?)])
    func aPositionCanBeDemanded(position: UInt64, expected: Causality.Obstacle?) {
        let causality = Causality()
        causality.minimumPosition = 1000
        let replica = node("a", caughtUp: 99)
        replica.position.store(position, ordering: .relaxed)
        #expect(causality.obstacle(replica, mode: .lsn) == expected)
        #expect(causality.obstacle(replica, mode: .off) == expected, "whatever the mode")
    }

    // MARK: Shared

    /// What two clients have in common.
    enum Bond: CaseIterable { case key, user, database }

    private static func pair(_ bond: Bond) -> (Causality, Causality) {
        let shared = SharedCausality()
        let (one, other) = (Causality(), Causality())
        switch bond {
        case .key:
            one.join(key: shared, user: nil, database: nil, scope: .client)
            other.join(key: shared, user: nil, database: nil, scope: .client)
        case .user:
            // Who writes need not read so.
            one.join(key: nil, user: shared, database: SharedCausality(), scope: .client)
            other.join(key: nil, user: shared, database: SharedCausality(), scope: .user)
        case .database:
            one.join(key: SharedCausality(), user: SharedCausality(), database: shared, scope: .user)
            other.join(key: SharedCausality(), user: SharedCausality(), database: shared, scope: .database)
        }
        return (one, other)
    }

    @Test(arguments: Bond.allCases)
    func writesAreEverybodys(bond: Bond) {
        let (one, other) = Self.pair(bond)
        one.wrote(generation: 7, now: 10_000)
        #expect(other.obstacle(node("a", caughtUp: 7), mode: .lsn) == .write)
        #expect(other.obstacle(node("a", caughtUp: 8), mode: .lsn) == nil)
        #expect(other.isWithinWindow(5_000, now: 14_999) && !other.isWithinWindow(5_000, now: 16_000))
        // A late note of an older write takes nothing back.
        other.wrote(generation: 4, now: 9_000)
        #expect(one.obstacle(node("a", caughtUp: 7), mode: .lsn) == .write)
        #expect(one.isWithinWindow(5_000, now: 14_999))
    }

    @Test func othersCountOnlyWhereTheyAreAskedFor() {
        let (user, database) = (SharedCausality(), SharedCausality())
        let (writer, reader) = (Causality(), Causality())
        writer.join(key: nil, user: user, database: database, scope: .client)
        reader.join(key: nil, user: user, database: database, scope: .client)
        writer.wrote(generation: 7, now: 0)
        #expect(reader.obstacle(node("a", caughtUp: 7), mode: .lsn) == nil)
        #expect(!reader.isWithinWindow(50, now: 1))
        reader.join(key: nil, user: user, database: database, scope: .user)
        #expect(reader.obstacle(node("a", caughtUp: 7), mode: .lsn) == .write)
    }

    /// A key makes a client of several connections; it does not take away what counts beside.
    @Test(arguments: [ReadAfterWriteScope.user, .database])
    func aKeyIsNoEndOfTheScope(scope: ReadAfterWriteScope) {
        let (user, database) = (SharedCausality(), SharedCausality())
        let (writer, reader) = (Causality(), Causality())
        writer.join(key: nil, user: user, database: database, scope: .client)
        reader.join(key: SharedCausality(), user: user, database: database, scope: scope)
        writer.wrote(generation: 7, now: 0)
        #expect(reader.obstacle(node("a", caughtUp: 7), mode: .lsn) == .write)
    }

    /// What was chosen is looked at again: in each mode by what holds in it.
    @Test(arguments: [(ReadAfterWrite.off, true), (.lsn, false), (.window, false)])
    func whatWasChosenMayBeOutdated(mode: ReadAfterWrite, stays: Bool) {
        let (writer, reader) = Self.pair(.key)
        let replica = node("a", caughtUp: 7)
        let window = settings().window(mode)
        #expect(reader.mayStay(on: replica, mode: mode, window: window, now: 10_000))
        writer.wrote(generation: 7, now: 10_000)
        #expect(reader.mayStay(on: replica, mode: mode, window: window, now: 10_000) == stays)
        replica.caughtUp.store(8, ordering: .relaxed)
        #expect(reader.mayStay(on: replica, mode: mode, window: window, now: 3_000_000))
    }

    @Test(arguments: Bond.allCases)
    func readsAreSharedUnderAKeyOnly(bond: Bond) {
        let (one, other) = Self.pair(bond)
        let (a, b) = (node("a", caughtUp: 5), node("b", caughtUp: 5))
        one.read(from: a, generation: 5)
        #expect(other.obstacle(a, mode: .lsn) == nil)
        #expect(other.obstacle(b, mode: .lsn) == (bond == .key ? .read : nil))
    }

    @Test func aNodeThatIsNewDoesNotStandForWhatItShowedOthersBefore() {
        let (one, other) = Self.pair(.key)
        let a = node("a", caughtUp: 5)
        one.read(from: a, generation: 5)
        a.knownSince.store(6, ordering: .relaxed)
        #expect(other.obstacle(a, mode: .lsn) == .read)
        other.read(from: a, generation: 6)
        #expect(one.obstacle(a, mode: .lsn) == .read, "its own read is the older one")
        a.caughtUp.store(6, ordering: .relaxed)
        #expect(one.obstacle(a, mode: .lsn) == nil)
        #expect(other.obstacle(a, mode: .lsn) == nil)
    }

    /// Each of the two has shown what the other may not have yet.
    @Test func readsFromTwoNodesAtOnceExemptNeither() {
        let (one, other) = Self.pair(.key)
        let (a, b) = (node("a", caughtUp: 5), node("b", caughtUp: 5))
        one.read(from: a, generation: 5)
        other.read(from: b, generation: 5)
        for causality in [one, other] {
            #expect(causality.obstacle(a, mode: .lsn) == .read)
            #expect(causality.obstacle(b, mode: .lsn) == .read)
        }
        for node in [a, b] { node.caughtUp.store(6, ordering: .relaxed) }
        for causality in [one, other] {
            #expect(causality.obstacle(a, mode: .lsn) == nil)
            #expect(causality.obstacle(b, mode: .lsn) == nil)
        }
    }

    /// A key that was forgotten may have been written under.
    @Test func aKeyOfUnknownHistoryNeedsANewSample() {
        let causality = Causality()
        causality.join(key: SharedCausality(needed: 5), user: nil, database: nil, scope: .client)
        #expect(causality.obstacle(node("a", caughtUp: 4), mode: .lsn) == .write)
        #expect(causality.obstacle(node("a", caughtUp: 5), mode: .lsn) == nil)
    }
}
