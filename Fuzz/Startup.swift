import Wire

extension FuzzTarget {
    /// A client's first packet, and its `options`.
    static let startup = FuzzTarget(name: "startup") { bytes in
        let outcome = StartupPacket.parse(bytes.span)
        switch outcome {
        case .packet(let packet, let length):
            try expect(length <= min(bytes.count, StartupPacket.maximumLength), "a packet of \(length) bytes")
            try checkAgain(packet)
        case .incomplete(let more):
            try expect(more > bytes.count && more <= StartupPacket.maximumLength, "waits for \(more) bytes")
        case .directTLS: try expect(bytes.first == 0x16, "TLS that begins with another byte")
        case .invalid(let error):
            try expect(!error.message.isEmpty && error.sqlState.utf8.count == 5, "a refusal without its words")
        }
        try checkParts(bytes, outcome)
        if let settings = try? StartupOptions.parse(bytes.span) { try checkOptions(settings) }
    }

    /// However the bytes are cut, nothing else comes out, and what is waited for is not more than the packet's length.
    private static func checkParts(_ bytes: [UInt8], _ whole: StartupPacket.Outcome) throws {
        let declared = bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        for count in bytes.indices {
            let part = StartupPacket.parse(bytes.span.extracting(..<count))
            if case .incomplete(let more) = part {
                try expect(more > count && more <= max(8, declared), "waits for \(more) with \(count) there")
            } else {
                try expect(part == whole, "with \(count) bytes it is \(part), with all \(whole)")
            }
        }
        guard case .packet(_, let length) = whole else { return }
        try expect(StartupPacket.parse(bytes.span.extracting(..<length)) == whole, "reads behind its end")
    }

    /// What was read can be written, and is read the same again.
    private static func checkAgain(_ packet: StartupPacket) throws {
        guard case .startup(let message) = packet else { return }
        try expect(!message.user.isEmpty && !message.database.isEmpty, "a startup message without user or database")
        var parameters = [
            StartupParameter(name: "user", value: message.user),
            StartupParameter(name: "database", value: message.database),
        ]
        if let replication = message.replication {
            parameters.append(StartupParameter(name: "replication", value: replication))
        }
        if let options = message.options { parameters.append(StartupParameter(name: "options", value: options)) }
        parameters += message.parameters + message.extensions.map { StartupParameter(name: $0, value: "") }
        let written = MessageWriter.bytes { $0.startup(version: message.version, parameters: parameters) }
        // U+FFFD in the place of a single byte may make it too long.
        guard written.count <= StartupPacket.maximumLength else { return }
        let again = StartupPacket.parse(written.span)
        try expect(again == .packet(packet, length: written.count), "written again: \(again)")
    }

    private static func checkOptions(_ settings: [StartupParameter]) throws {
        try expect(settings.allSatisfy { !$0.name.isEmpty }, "a setting without a name")
        var written: [UInt8] = []
        for setting in settings {
            written += Array("-c ".utf8)
            for byte in Array(setting.name.utf8) + [UInt8(ascii: "=")] + setting.value {
                if byte == 0x20 || (9...13).contains(byte) || byte == UInt8(ascii: "\\") {
                    written.append(UInt8(ascii: "\\"))
                }
                written.append(byte)
            }
            written.append(UInt8(ascii: " "))
        }
        let again = try? StartupOptions.parse(written.span)
        try expect(again == settings, "\(settings) written again: \(String(describing: again))")
    }
}
