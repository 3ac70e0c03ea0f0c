@testable import Authentication

/// What both sides of SCRAM are fuzzed with: the keys of one password, at one iteration, and nonces that never change.
private enum Login {
    static let clientNonce = Array("fyko+d2lbbFgONRv9qkxdawL".utf8)
    static let serverNonce = Array("3rfcNHYJY1ZVvWVs7j".utf8)
    static let endPoint = [UInt8](repeating: 0xA7, count: 32)

    static func keys(_ password: String) throws -> SCRAMKeys {
        let salt = Array("sixteen bytes of".utf8)
        return try SCRAMDerivation(password: SecretBytes(Array(password.utf8)), salt: salt, iterations: 1).run()
    }

    static func server(_ password: String = "pencil", bindsChannel: Bool) throws -> SCRAMServer {
        SCRAMServer(
            verifier: try SCRAMVerifier(try self.keys(password)), serverEndPoint: bindsChannel ? self.endPoint : nil,
            nonce: self.serverNonce)
    }
}

extension FuzzTarget {
    /// A client that wants to get in.
    static let scramServer = FuzzTarget(name: "scram-server") { bytes in
        var input = InputReader(bytes)
        let flags = input.byte()
        let mechanism = input.line()
        let bindsChannel = flags & 1 != 0
        if flags & 2 == 0 {
            try checkStranger(mechanism, bindsChannel, &input)
        } else {
            try checkOwner(mechanism, bindsChannel, &input)
        }
    }

    /// One that does not know the password never gets in, whatever it says.
    private static func checkStranger(_ mechanism: [UInt8], _ bindsChannel: Bool, _ input: inout InputReader) throws {
        var server = try Login.server(bindsChannel: bindsChannel)
        var hasFailed = false
        let first = input.line()
        var action = server.initialResponse(mechanism: mechanism.span, message: first.span)
        for _ in 0..<4 {
            switch action {
            case .success: throw Broken(description: "let in without the password")
            case .failure: hasFailed = true
            case .send(let answer):
                try expect(!hasFailed, "goes on after a failure")
                try expect(answer.count <= SCRAMMessage.lengthLimit, "an answer of \(answer.count) bytes")
            }
            let message = input.line()
            action = server.response(message.span)
        }
    }

    /// One that knows it gets in, with whatever else its messages hold, and not if a single byte of them is another.
    private static func checkOwner(_ mechanism: [UInt8], _ bindsChannel: Bool, _ input: inout InputReader) throws {
        let first = input.line()
        let extensions = input.line()
        let place = input.number(below: 4096)
        let change = max(1, input.byte())
        var server = try Login.server(bindsChannel: bindsChannel)
        guard case .send(let serverFirst) = server.initialResponse(mechanism: mechanism.span, message: first.span)
        else { return }
        let final = try ownersFinal(first, serverFirst, extensions)
        let outcome = server.response(final.span)
        if case .success(_, let keys) = outcome {
            try expect(try keys == Login.keys("pencil"), "let in with other keys")
            var again = try Login.server(bindsChannel: bindsChannel)
            _ = again.initialResponse(mechanism: mechanism.span, message: first.span)
            var changed = final
            changed[place % changed.count] ^= change
            if case .success = again.response(changed.span) {
                throw Broken(description: "let in with a changed message: \(shown(changed))")
            }
        } else {
            try expect(!extensions.isEmpty, "refuses the right proof: \(outcome)")
        }
        var other = try Login.server("another password", bindsChannel: bindsChannel)
        _ = other.initialResponse(mechanism: mechanism.span, message: first.span)
        if case .success = other.response(final.span) { throw Broken(description: "let in with another's password") }
    }

    /// The final message of a client that knows the password.
    private static func ownersFinal(_ first: [UInt8], _ serverFirst: [UInt8], _ extensions: [UInt8]) throws -> [UInt8] {
        let comma = UInt8(ascii: ",")
        let commas = first.indices.filter { first[$0] == comma }
        guard commas.count >= 2, first[0] != UInt8(ascii: "p") || first.starts(with: SCRAMServer.bindingFlag) else {
            throw Broken(description: "took a first message without header: \(shown(first))")
        }
        let header = first[...commas[1]]
        let channel = header + (first[0] == UInt8(ascii: "p") ? Login.endPoint : [])
        let nonce = Array(serverFirst.prefix { $0 != comma }.dropFirst(2))
        var answer = SCRAMText(capacity: 0)
        answer.attribute("c", base64: Array(channel).span)
        answer.attribute("r", nonce.span)
        if !extensions.isEmpty { answer.append(([comma] + extensions).span) }
        let keys = try Login.keys("pencil")
        let firstBare = Array(first[header.endIndex...])
        let signed = SCRAMText.signed(firstBare.span, serverFirst.span, answer.bytes.span)
        let storedKey = try Crypto.sha256(keys.clientKey.span)
        let signature = try Crypto.hmacSHA256(key: storedKey.span, signed.span)
        let proof = Crypto.exclusiveOr(keys.clientKey.span, signature.span)
        answer.attribute("p", base64: proof.span)
        return answer.bytes
    }

    /// A server, or somebody between us and it.
    static let scramClient = FuzzTarget(name: "scram-client") { bytes in
        var input = InputReader(bytes)
        let flags = input.byte()
        let endPoint = flags & 1 != 0 ? Login.endPoint : nil
        if flags & 2 == 0 {
            try checkFalseServer(endPoint, &input)
        } else {
            try checkBetween(bindsChannel: flags & 1 != 0, &input)
        }
    }

    /// A server that does not know the secret is never believed, and never makes us work without bound.
    private static func checkFalseServer(_ endPoint: [UInt8]?, _ input: inout InputReader) throws {
        var client = SCRAMClient(
            password: SecretBytes(Array("pencil".utf8)), serverEndPoint: endPoint, nonce: Login.clientNonce)
        let mechanisms = input.line().map { $0 == UInt8(ascii: " ") ? 0 : $0 }
        _ = client.begin(mechanisms: mechanisms.span)
        let first = input.line()
        if case .derive(let derivation) = client.serverFirst(first.span) {
            try expect(SCRAMVerifier.iterationBounds ~= derivation.iterations, "\(derivation.iterations) iterations")
            try expect(derivation.salt.count <= SCRAMVerifier.saltLimit, "a salt of \(derivation.salt.count) bytes")
            let known = try Login.keys("pencil")
            _ = client.derived(
                SCRAMKeys(
                    iterations: derivation.iterations, salt: derivation.salt, clientKey: known.clientKey,
                    serverKey: known.serverKey))
        }
        for _ in 0..<2 {
            let final = input.line()
            if case .complete = client.serverFinal(final.span) {
                throw Broken(description: "believes a server without the secret")
            }
            try expect(!client.isComplete, "is complete with a server without the secret")
        }
    }

    /// Both sides end well only if nobody has changed what they said to each other.
    private static func checkBetween(bindsChannel: Bool, _ input: inout InputReader) throws {
        let edits = (0..<4).map { _ in (place: input.number(below: 600), change: input.byte(), kind: input.byte()) }
        func passed(_ message: [UInt8], _ number: Int) -> [UInt8] {
            let (place, change, kind) = edits[number]
            var message = message
            guard change != 0, place < message.count else { return message }
            switch kind % 3 {
            case 0: message[place] ^= change
            case 1: message.insert(change, at: place)
            default: message.remove(at: place)
            }
            return message
        }
        var client = SCRAMClient(
            keys: try Login.keys("pencil"), serverEndPoint: bindsChannel ? Login.endPoint : nil,
            nonce: Login.clientNonce)
        var server = try Login.server(bindsChannel: bindsChannel)
        let mechanisms = Array(SCRAMServer.mechanisms(bindsChannel: bindsChannel).joined(separator: "\0").utf8)
        guard case .sendInitial(let mechanism, let clientFirst) = client.begin(mechanisms: mechanisms.span) else {
            throw Broken(description: "does not take up what the server offers")
        }
        let first = passed(clientFirst, 0)
        guard
            case .send(let serverFirst) = server.initialResponse(
                mechanism: Array(mechanism.utf8).span, message: first.span),
            case .send(let clientFinal) = client.serverFirst(passed(serverFirst, 1).span),
            case .success(let serverFinal, _) = server.response(passed(clientFinal, 2).span)
        else {
            try expect(edits.contains { $0.change != 0 }, "an honest exchange fails")
            return
        }
        let isUnchanged =
            first == clientFirst && passed(serverFirst, 1) == serverFirst
            && passed(clientFinal, 2) == clientFinal
        try expect(isUnchanged, "lets a client in whose words were changed")
        let final = passed(serverFinal, 3)
        if case .complete = client.serverFinal(final.span) {
            // What follows the signature is nobody's promise.
            try expect(
                final == serverFinal || final.starts(with: serverFinal + [UInt8(ascii: ",")]),
                "believes another signature: \(shown(final))")
        } else {
            try expect(final != serverFinal, "an honest server is not believed")
        }
    }
}
