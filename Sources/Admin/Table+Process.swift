import Proxy
import Settings
import Wire

// SHOW CONFIG, MEM, STATE, DNS_HOSTS, DNS_ZONES, and tables of one value.

extension Table {
    static func config(_ settings: Settings) -> Table {
        var table = Table([.text("key"), .text("value"), .text("default"), .text("changeable")])
        for row in settings.configRows() {
            table.add([row.key, row.value, row.defaultValue, .yesNo(row.isChangeable)])
        }
        return table
    }

    static func memory(_ memory: [MemoryStatus]) -> Table {
        var table = Table([.text("name"), .int4("size"), .int4("used"), .int4("free"), .int4("memtotal")])
        for kind in memory {
            table.add([
                kind.name, .int4(kind.size), .int4(kind.used), .int4(kind.free),
                .int4(kind.size.multipliedOrLargest(by: kind.used + kind.free)),
            ])
        }
        return table
    }

    /// PgBouncer's SUSPEND does not exist here, and its row always says no.
    static func state(_ state: ProxyState) -> Table {
        var table = Table([.text("key"), .text("value")])
        table.add(["active", .yesNo(!state.isPaused)])
        table.add(["paused", .yesNo(state.isPaused)])
        table.add(["suspended", .yesNo(false)])
        table.add(["event_loop", state.eventLoop])
        table.add(["donations", String(state.donations)])
        return table
    }

    static func dnsHosts(_ hosts: [DNSHostStatus]) -> Table {
        var table = Table([.text("hostname"), .int8("ttl"), .text("addrs")])
        for host in hosts.sorted(by: { $0.name < $1.name }) {
            table.add([
                host.name, String(max(0, host.timeToLive / 1_000_000)), host.addresses.joined(separator: ","),
            ])
        }
        return table
    }

    /// No rows: zones are not watched.
    static func dnsZones() -> Table {
        Table([.text("zonename"), .int8("serial"), .int4("count")])
    }

    /// One row with one text, or NULL.
    static func single(_ column: String, _ value: String?) -> Table {
        var table = Table([.text(column)])
        table.add([value])
        return table
    }
}

extension Int {
    fileprivate func multipliedOrLargest(by other: Int) -> Int {
        let (product, overflow) = self.multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
