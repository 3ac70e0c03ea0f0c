import Settings
import Wire

/// The result of a SHOW command: columns with PostgreSQL types, and rows in text format.
struct Table {
    let columns: [RowColumn]
    private(set) var rows: [[String?]] = []

    init(_ columns: [RowColumn]) {
        self.columns = columns
    }

    /// Adds a row; nil is NULL.
    mutating func add(_ values: [String?]) {
        assert(values.count == self.columns.count, "a row needs a value for each column")
        self.rows.append(values)
    }

    /// RowDescription, the rows and CommandComplete. Values may be names that strangers have chosen.
    func write(to writer: inout MessageWriter) {
        writer.rowDescription(self.columns)
        for row in self.rows { writer.dataRow(row.map { $0.map(HarmlessText.cell) }) }
        writer.commandComplete("SHOW")
    }
}

extension String {
    /// A value of an int4 column: what does not fit shows as the largest that does, because drivers refuse to read
    /// more.
    static func int4(_ value: Int) -> String {
        String(Int32(clamping: value))
    }

    static func int4(_ flag: Bool) -> String { flag ? "1" : "0" }

    static func yesNo(_ flag: Bool) -> String { flag ? "yes" : "no" }

    /// A connection's id as log lines and the columns `ptr` and `link` show it.
    static func pointer(_ id: UInt64) -> String { "0x" + String(id, radix: 16) }
}
