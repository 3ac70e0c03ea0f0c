import Routing
import Settings
import Synchronization
import Testing

@Suite struct BalancerTests {
    /// How often each node is chosen.
    private static func shares(
        _ balancer: inout Balancer, times: Int, now: Int64 = 0, where fits: (Node) -> Bool = { _ in true }
    ) -> [String: Int] {
        var shares: [String: Int] = [:]
        for _ in 0..<times {
            if let load = balancer.choose(now: now, where: fits) { shares[load.node.host, default: 0] += 1 }
        }
        return shares
    }

    @Test(arguments: LoadBalance.allCases)
    func nobodyFits(_ method: LoadBalance) {
        var none = balancer([], method)
        #expect(none.choose(now: 0) { _ in true } == nil)
        var some = balancer([node("a"), node("b")], method)
        #expect(some.choose(now: 0) { _ in false } == nil)
    }

    @Test(arguments: LoadBalance.allCases)
    func whoDoesNotFitIsNeverChosen(_ method: LoadBalance) {
        var balancer = balancer([node("a"), node("b"), node("c")], method)
        let shares = Self.shares(&balancer, times: 100) { $0.host != "b" }
        #expect(shares["b"] == nil)
        #expect(shares.count == 2)
    }

    @Test(arguments: [LoadBalance.roundRobin, .leastConnections, .random])
    func equalsTakeEqualShares(_ method: LoadBalance) {
        var balancer = balancer([node("a"), node("b"), node("c")], method)
        let shares = Self.shares(&balancer, times: 3000)
        for name in ["a", "b", "c"] { #expect(abs((shares[name] ?? 0) - 1000) < 150, "\(shares)") }
    }

    @Test func roundRobinFollowsTheWeightsExactly() {
        let nodes = ["a", "b", "c"].map { node($0) }
        var balancer = balancer(nodes, weights: [1, 2, 5])
        #expect(Self.shares(&balancer, times: 80) == ["a": 10, "b": 20, "c": 50])
        // No node has its whole share at once.
        var run = 0
        var longest = 0
        for _ in 0..<80 {
            run = balancer.choose(now: 0) { _ in true }?.node.host == "c" ? run + 1 : 0
            longest = max(longest, run)
        }
        #expect(longest <= 3)
    }

    /// Weights of two and more nodes, with one that is left out.
    static let weights = [[1, 3], [3, 1], [1, 1], [1, 2, 5], [10, 1, 1, 4], [0, 2, 1], [1, 100]]

    /// Requests that take `time` each, `concurrency` of them at a time: how many each node gets.
    private static func simulated(
        _ method: LoadBalance, _ weights: [Int], concurrency: Int, requests: Int, time: (Int) -> Int = { _ in 1000 }
    ) -> [Int] {
        var balancer = balancer(
            weights.indices.map { node("\($0)") }, method, weights: weights, seed: 99)
        var shares = weights.map { _ in 0 }
        // Those under way: the node, and when it ends.
        var running: [(load: NodeLoad, end: Int)] = []
        for _ in 0..<requests {
            if running.count == concurrency, let first = running.indices.min(by: { running[$0].end < running[$1].end })
            {
                let (load, end) = running.remove(at: first)
                load.inFlight -= 1
                load.answered(after: Int64(time(load.position)))
                running = running.map { ($0.load, $0.end - end) }
            }
            guard let load = balancer.choose(now: 0, where: { _ in true }) else { break }
            load.inFlight += 1
            shares[load.position] += 1
            running.append((load, time(load.position) + running.count))
        }
        return shares
    }

    /// With nobody else about, with as many at once as there are nodes, and with many.
    @Test(arguments: LoadBalance.allCases, weights)
    func sharesFollowTheWeightsIdleAndBusy(_ method: LoadBalance, _ weights: [Int]) {
        for concurrency in [1, 2, weights.count, 7, 40] {
            let requests = 6000
            let shares = Self.simulated(method, weights, concurrency: concurrency, requests: requests)
            let total = weights.reduce(0, +)
            for (share, weight) in zip(shares, weights) {
                let expected = requests * weight / total
                #expect(
                    weight == 0 ? share == 0 : abs(share - expected) <= 200,
                    "\(concurrency) at once: \(shares) for \(weights)")
            }
        }
    }

    /// Not even its share is forced on a node that takes ten times as long: what is in flight is what counts then.
    @Test func leastConnectionsSparesASlowNode() {
        let shares = Self.simulated(.leastConnections, [1, 1], concurrency: 20, requests: 4000) {
            $0 == 0 ? 10_000 : 1000
        }
        #expect((300...600).contains(shares[0]), "\(shares)")
    }

    /// A node that could take nothing for a while is not flooded when it can.
    @Test func leastConnectionsOwesNobodyALot() {
        var balancer = balancer([node("a"), node("b"), node("c")], .leastConnections)
        _ = Self.shares(&balancer, times: 1000) { $0.host != "c" }
        let shares = Self.shares(&balancer, times: 30)
        #expect(shares.values.allSatisfy { (8...13).contains($0) }, "\(shares)")
    }

    @Test func randomFollowsTheWeights() {
        let nodes = ["a", "b"].map { node($0) }
        for seed in 1...5 as ClosedRange<UInt64> {
            var balancer = balancer(nodes, .random, weights: [1, 3], seed: seed)
            let shares = Self.shares(&balancer, times: 4000)
            #expect(abs((shares["b"] ?? 0) - 3000) < 200, "\(shares)")
        }
    }

    @Test func leastConnectionsCountsWhatIsInFlightByWeight() {
        let nodes = ["a", "b"].map { node($0) }
        var balancer = balancer(nodes, .leastConnections, weights: [1, 3])
        for _ in 0..<400 { balancer.choose(now: 0) { _ in true }?.inFlight += 1 }
        #expect(balancer.loads.map(\.inFlight) == [100, 300])
        balancer.loads[1].inFlight = 0
        #expect(balancer.choose(now: 0) { _ in true }?.node.host == "b")
    }

    @Test func latencyTakesTheBetterOfTwo() {
        var balancer = balancer([node("slow"), node("fast")], .latency)
        balancer.loads[0].answered(after: 50_000)
        balancer.loads[1].answered(after: 1_000)
        let shares = Self.shares(&balancer, times: 1000)
        // The slow one only when it is drawn twice.
        #expect((150...350).contains(shares["slow"] ?? 0), "\(shares)")
    }

    @Test func latencyIsAMovingAverage() {
        let load = balancer([node("a")]).loads[0]
        load.answered(after: 1000)
        #expect(load.latency == 1000)
        load.answered(after: 2000)
        #expect(load.latency == 1100)
        for _ in 0..<200 { load.answered(after: 5000) }
        #expect(abs(load.latency - 5000) < 1)
    }

    @Test(arguments: LoadBalance.allCases)
    func aSuspectIsTheLastResort(_ method: LoadBalance) {
        var balancer = balancer([node("a"), node("b")], method)
        balancer.loads[0].suspectUntil = 1000
        #expect(Self.shares(&balancer, times: 50, now: 999) == ["b": 50])
        #expect(Self.shares(&balancer, times: 50, now: 999) { $0.host == "a" } == ["a": 50])
        #expect(Self.shares(&balancer, times: 200, now: 1000)["a", default: 0] > 0)
    }

    @Test(arguments: LoadBalance.allCases)
    func aNodeWithoutWeightIsTheLastResort(_ method: LoadBalance) {
        let nodes = ["a", "b"].map { node($0) }
        var balancer = balancer(nodes, method, weights: [0, 1])
        #expect(Self.shares(&balancer, times: 50) == ["b": 50])
        #expect(Self.shares(&balancer, times: 50) { $0.host == "a" } == ["a": 50])
    }

    @Test func aNodeThatHasComeBackStartsWithASmallShare() {
        let back = node("back")
        back.upSince.store(1_000_000, ordering: .relaxed)
        var balancer = balancer([node("a"), back])
        func share(after seconds: Int64) -> Int {
            Self.shares(&balancer, times: 1100, now: 1_000_000 + seconds * 1_000_000)["back"] ?? 0
        }
        #expect(abs(share(after: 0) - 100) <= 2, "a tenth of a share")
        #expect(abs(share(after: 10) - 367) <= 4, "half of one")
        #expect(abs(share(after: 20) - 550) <= 4, "a whole one")
        #expect(abs(share(after: 3600) - 550) <= 4)
    }

    @Test func nodesThatStayKeepWhatIsKnownOfThem() {
        let (a, b, c) = (node("a"), node("b"), node("c"))
        var balancer = balancer([a, b])
        balancer.loads[1].answered(after: 700)
        balancer.loads[1].inFlight = 3
        let known = balancer.loads[1]
        balancer.setNodes([b, c], weights: given([5, 4], to: [b, c]))
        #expect(balancer.loads[0] === known)
        #expect(balancer.loads.map(\.weight) == [5, 4])
        #expect(balancer.loads.map(\.inFlight) == [3, 0])
        #expect(balancer.loads.map(\.latency) == [700, 0])
    }

    @Test func ofVeryManyNodesTheFirst64AreUsed() {
        var balancer = balancer((0..<100).map { node("\($0)") })
        #expect(Self.shares(&balancer, times: 640).count == 64)
        var late = balancer
        #expect(late.choose(now: 0) { Int($0.host) ?? 0 >= 64 } == nil)
    }
}
