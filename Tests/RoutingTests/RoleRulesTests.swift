import Routing
import Testing

@Suite struct RoleRulesTests {
    /// What a server said, short: `P2` out of recovery on timeline 2, `R1` in recovery on timeline 1, `-` nothing yet; a
    /// `!` behind it: down since; `x`: of another cluster; `=`: the same server as the others with it.
    private static func member(_ id: Int, _ text: String) -> RoleRules.Member {
        let name = "pg\(id)"
        guard text != "-" else { return RoleRules.Member(id: name, isUp: false, answer: nil) }
        let timeline = UInt32(text.dropFirst().prefix { $0.isNumber }) ?? 0
        return RoleRules.Member(
            id: name, isUp: !text.contains("!"),
            answer: RoleRules.Answer(
                isInRecovery: text.hasPrefix("R"), timeline: timeline, systemIdentifier: text.contains("x") ? 666 : 42,
                startTime: text.contains("=") ? "same" : "\(id)"))
    }

    private static func short(_ role: Node.Role) -> String {
        switch role {
        case .unknown: "?"
        case .primary: "primary"
        case .replica: "replica"
        case .fenced: "fenced"
        case .foreign: "foreign"
        }
    }

    /// A story: what all servers said, again and again, and their roles each time.
    struct Story: Sendable, CustomTestStringConvertible {
        let name: String
        let steps: [(said: String, roles: String)]
        var testDescription: String { self.name }
    }

    static let stories = [
        Story(
            name: "an ordinary cluster",
            steps: [("- - -", "? ? ?"), ("R1 P1 -", "replica primary ?"), ("R1 P1 R1", "replica primary replica")]),
        Story(
            name: "failover: the old primary comes back and stays fenced until it is a replica",
            steps: [
                ("P1 R1", "primary replica"), ("P1! R1", "primary replica"), ("P1! P2", "fenced primary"),
                ("P1 P2", "fenced primary"), ("P1 P2!", "fenced primary"), ("R2 P2", "replica primary"),
            ]),
        Story(
            name: "planned switchover",
            steps: [
                ("P1 R1", "primary replica"), ("R1 R1", "replica replica"), ("R1 P2", "replica primary"),
                ("R2 P2", "replica primary"),
            ]),
        Story(
            name: "promotion beside a running primary: the higher timeline wins at once",
            steps: [("P1 R1", "primary replica"), ("P1 P2", "fenced primary")]),
        Story(
            name: "at the start the higher timeline is the primary, wherever it stands",
            steps: [("P1 P2 R2", "fenced primary replica")]),
        Story(
            name: "a replica on a higher timeline tells of a primary that is not seen",
            steps: [("P1 - R2", "fenced ? replica"), ("P1 P2 R2", "fenced primary replica")]),
        Story(
            name: "on equal timelines the one that was primary stays",
            steps: [("- P1", "? primary"), ("P1 P1", "fenced primary"), ("P1 P1!", "fenced primary")]),
        Story(
            name: "on equal timelines at the start the first in the file is the primary",
            steps: [("P1 P1", "primary fenced")]),
        Story(
            name: "the data of a dead primary started elsewhere, on the same timeline",
            steps: [
                ("P1 R1 R1", "primary replica replica"), ("P1! P1 R1", "? primary replica"),
                ("P1 P1 R1", "fenced primary replica"),
            ]),
        Story(
            name: "a fenced server that was rebuilt and promoted between two looks",
            steps: [("P1 P2", "fenced primary"), ("P3 P2!", "primary fenced"), ("P3 P2", "primary fenced")]),
        Story(
            name: "another cluster's server takes nothing, even on a higher timeline",
            steps: [("P1 R1 P7x", "primary replica foreign"), ("P1! R1 P7x", "primary replica foreign")]),
        Story(
            name: "the majority decides which cluster it is",
            steps: [("P7x P1 R1", "foreign primary replica")]),
        Story(
            name: "the first known identifier holds against a later majority",
            steps: [("P1 - -", "primary ? ?"), ("P1 P1x R1x", "primary foreign foreign")]),
        Story(
            name: "all servers made anew: another cluster, from timeline 1",
            steps: [("P3 R3", "primary replica"), ("P1x R3!", "foreign replica"), ("P1x R1x", "primary replica")]),
        Story(
            name: "two addresses of one server are both the primary",
            steps: [
                ("P1= P1= R1", "primary primary replica"), ("P1=! P1= R1", "primary primary replica"),
                ("P1= P1= R1", "primary primary replica"),
            ]),
        Story(
            name: "a primary that is down is the primary until there is another",
            steps: [("P1 R1", "primary replica"), ("P1! R1!", "primary replica"), ("P1 R1", "primary replica")]),
        Story(
            name: "a replica on no timeline that is known",
            steps: [("P1 R0", "primary replica")]),
    ]

    @Test(arguments: stories)
    func rolesFollow(story: Story) {
        var rules = RoleRules()
        for (said, expected) in story.steps {
            let members = said.split(separator: " ").enumerated().map { Self.member($0.offset, String($0.element)) }
            let roles = rules.roles(of: members).map(Self.short).joined(separator: " ")
            #expect(roles == expected, "after \(said)")
        }
    }

    @Test func neverTwoDifferentServersTakeWrites() {
        // All pairs of what two servers may say, from all states that two earlier such pairs lead to.
        let words = ["-", "R1", "R2", "P1", "P2", "P1!", "P2!", "R2!", "P1x"]
        let pairs = words.flatMap { a in words.map { [a, $0] } }
        func members(_ pair: [String]) -> [RoleRules.Member] {
            pair.enumerated().map { Self.member($0.offset, $0.element) }
        }
        for first in pairs {
            var afterFirst = RoleRules()
            _ = afterFirst.roles(of: members(first))
            for second in pairs {
                var rules = afterFirst
                let before = rules.highestTimeline
                let roles = rules.roles(of: members(second))
                let primaries = roles.indices.filter { roles[$0] == .primary }
                #expect(primaries.count <= 1, "\(first) then \(second)")
                for index in primaries where second[index].hasPrefix("P1") && !second[index].contains("x") {
                    #expect(before < 2 || rules.systemIdentifier == 666, "a timeline of old: \(first) then \(second)")
                }
            }
        }
    }

    @Test func serverThatIsNoLongerListedIsForgotten() {
        var rules = RoleRules()
        _ = rules.roles(of: [Self.member(1, "P1"), Self.member(2, "R1")])
        #expect(rules.primary == "pg1")
        let roles = rules.roles(of: [Self.member(2, "R1"), Self.member(3, "P1")])
        #expect(roles == [.replica, .primary])
        #expect(rules.primary == "pg3")
    }

    @Test func unknownIdentifiersAreNotForeign() {
        var rules = RoleRules()
        var replica = Self.member(2, "R1")
        replica.answer?.systemIdentifier = nil
        let roles = rules.roles(of: [Self.member(1, "P1"), replica])
        #expect(roles == [.primary, .replica])
    }
}
