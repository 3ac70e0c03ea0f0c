import Logging
import Settings
import Synchronization

// What the process takes of memory, against `max_memory`. Who measures does so beside the reactors; those look at a flag.
extension Proxy {
    /// Notes how much is resident, in bytes. Above `max_memory` new clients are refused, until it is 5 % less: who is in
    /// stays in, and goes on working.
    ///
    /// - Returns: whether it would help to give memory back to the system.
    public func memoryMeasured(_ bytes: Int) -> Bool {
        self.shared.residentMemory.store(bytes, ordering: .relaxed)
        let limit = self.configuration.settings.general.maxMemory
        let wasShort = self.shared.isShortOfMemory.load(ordering: .relaxed)
        let isShort = limit > 0 && bytes >= (wasShort ? limit - limit / 20 : limit)
        if isShort != wasShort {
            self.shared.isShortOfMemory.store(isShort, ordering: .relaxed)
            let figures = "\(bytes >> 20) MB resident, max_memory is \(limit >> 20) MB"
            if isShort {
                self.logger.warning("short of memory: \(figures); new clients are refused")
            } else {
                self.logger.info("no longer short of memory: \(figures); new clients are let in")
            }
        }
        return isShort
    }
}
