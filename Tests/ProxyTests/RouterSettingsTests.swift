import SQL
import Testing
import Wire

@testable import Proxy

@Suite struct RouterSettingsTests {
    private var settings = RouterSettings()

    private mutating func set(_ key: String, isLocal: Bool = false, _ place: RouterSettings.Place = .transaction) {
        self.settings.set(isLocal: isLocal, place) { $0.sessionKey = key }
    }
    private var key: String? { self.settings.current.sessionKey }

    @Test mutating func aloneItHolds() {
        self.set("a", .alone)
        #expect(self.key == "a" && !self.settings.isOpen)
        self.set("b", isLocal: true, .alone)
        #expect(self.key == "a")
    }

    @Test mutating func aTransactionEndsIt() {
        self.set("a", .alone)
        self.set("b")
        self.set("c", isLocal: true)
        #expect(self.key == "c")
        self.settings.requestEnded(.inTransaction)
        self.settings.commit()
        #expect(self.key == "b")
        self.set("d")
        self.settings.requestEnded(.idle)
        #expect(self.key == "b", "it has not been committed")
    }

    @Test mutating func anErrorTakesARequestBack() {
        self.set("a", .request)
        self.settings.requestEnded(.idle)
        #expect(self.key == "a")
        self.set("b", .request)
        self.settings.noteError()
        self.settings.requestEnded(.idle)
        #expect(self.key == "a")
    }

    @Test mutating func savepoints() {
        self.set("a", .alone)
        self.settings.apply(.savepoint("x"), .transaction)
        self.set("b")
        self.settings.apply(.savepoint("y"), .transaction)
        self.set("c", isLocal: true)
        self.settings.apply(.rollback(to: "y"), .transaction)
        #expect(self.key == "b")
        self.settings.apply(.release("y"), .transaction)
        self.settings.noteError()
        self.settings.apply(.savepoint("x"), .transaction)
        self.settings.apply(.rollback(to: "x"), .transaction)
        #expect(self.key == "a", "the second one was in a transaction that had failed")
        self.settings.commit()
        #expect(self.key == "a" && !self.settings.isOpen)
    }

    @Test mutating func resetGoesBackToTheStart() {
        self.settings.begin(with: RouterSettings.Values(sessionKey: "start"))
        self.set("a", .alone)
        #expect(self.settings.areUsed)
        self.settings.resetAll(.alone)
        #expect(self.key == "start" && !self.settings.areUsed)
    }

    @Test mutating func savepointsAreBounded() {
        for number in 0..<5000 { self.settings.apply(.savepoint("\(number)"), .transaction) }
        #expect(self.settings.isTooDeep)
        self.settings.apply(.rollback(to: "1"), .transaction)
        #expect(!self.settings.isTooDeep)
    }
}
