import Pooling
import Reactor
import Wire

// How a server gets a statement, and whether it is the one that the client means: one that was prepared for others, with
// the same settings, and not before a change of the catalogue that the client knows of. A client that was told what its
// statement returns gets that or an error: where it is prepared anew the server is asked, and the request waits for the
// answer.
//
// What is changed by others than clients of this process, nobody tells of. A client that has prepared its statement after
// the server got it from somebody else must not be the one that hears of that: such a request is on trial
// (`ServerSession+Trial`), and is carried out anew if it fails as an outdated statement does.
extension ClientSession {
    /// - Parameter isThere: the server has it already, but not as it is meant now.
    func sendParse(
        _ statement: PreparedStatement, _ server: ServerSession, _ disposition: Disposition, isThere: Bool,
        name: [UInt8]?
    ) {
        if isThere {
            server.statements.remove(statement)
            self.sendClose(statement, server)
        }
        while let evicted = server.statements.makeRoom(for: statement.size) { self.sendClose(evicted, server) }
        if server.mustDeallocate && !isThere {
            // The books are wrong: it may be there, and outdated.
            server.requests.append(.close, .swallow)
            server.send(MessageWriter.bytes { $0.close(statement: statement.serverName) })
        }
        server.statements.insert(statement, generation: server.pool.catalogue.current, at: self.now)
        server.effects.append(.parse(statement, name: name))
        server.requests.append(.parse, disposition, hasEffect: true)
        self.group.statistics.counters.serverParseCount &+= 1
        server.send(MessageWriter.bytes { $0.parse(statement: statement.serverName, tail: statement.tail) })
    }

    /// Closes a statement that has just been taken out of the server's books.
    private func sendClose(_ statement: PreparedStatement, _ server: ServerSession) {
        server.effects.append(.evicted(statement))
        server.requests.append(.close, .swallow, hasEffect: true)
        server.send(MessageWriter.bytes { $0.close(statement: statement.serverName) })
    }

    /// Whether something is prepared behind commands of the same batch that may change what its text means: then it waits
    /// for their answers.
    func awaitsMeaning(_ server: ServerSession) -> Bool {
        // The server says nothing before the client has.
        if server.requests.isCopyingIn { return false }
        if case .replica = server.trial, server.meaning != .settled {
            // What has come of the answer is perhaps held back. There is no DDL.
            server.meaning = .settled
            server.isParsingUncertain = true
        }
        if server.requests.isEmpty && server.meaning != .settled {
            server.meaning = .settled
            // Which values settings have now the server tells at the end of the batch.
            if server.requests.isUnsynced { server.isParsingUncertain = true }
        }
        let last = server.requests.noted
        switch server.meaning {
        case .settled: return false
        case .awaited(upTo: last): return true
        case .awaited, .inDoubt:
            server.meaning = .awaited(upTo: last)
            server.send(MessageWriter.bytes { $0.flush() })
            return true
        }
    }

    /// The batch is over in which statements were prepared, perhaps with other settings than were known then: on another
    /// server they are prepared with those.
    @inline(never)
    func settleStatements() {
        let settings = self.parameters?.parsing ?? .none
        for name in self.unsettledStatements {
            guard let known = self.statements.find(name.span), known.statement.isOwn,
                known.statement.settings != settings
            else { continue }
            self.statements.replace(name.span, by: self.worker.statements.ownStatement(like: known.statement, settings))
        }
        self.unsettledStatements = []
    }

    /// Whether a statement can be used on a server.
    enum Preparation {
        /// The server has it, or will have it when it gets there.
        case ready
        /// The server has been asked what it returns; nothing may run before it is known to be what the client expects.
        case awaits
        /// It returns something else than the client was told.
        case changed
    }

    /// Makes sure that the server has what the client means by a name. `known` becomes what is to be used.
    ///
    /// - Parameter start: where the message stands that asks for it, and behind it the rest of its batch.
    func prepare(
        _ known: inout ClientStatement, _ name: Span<UInt8>, _ bytes: Span<UInt8>, _ start: Int, _ server: ServerSession
    ) -> Preparation {
        let generation = max(known.generation, self.statements.leastGeneration)
        var presence = server.statements.use(known.statement, from: generation)
        if case .prepared(let description, let provenAt) = presence {
            let isOlder = provenAt < known.preparedAt
            if known.description.holds(in: description) {
                if isOlder { self.tryOlder(known.statement, bytes, start, server) }
                return .ready
            }
            // The client was told of another one, which was prepared later.
            if isOlder && known.description.contradicts(description) { presence = .outdated }
        }
        return self.prepareAnew(&known, name, presence, server)
    }

    /// The server has a statement from before this client prepared it. If nothing has run yet that could not be done again,
    /// the batch is kept until it is known that the statement is still what its text means.
    @inline(never)
    private func tryOlder(_ statement: PreparedStatement, _ bytes: Span<UInt8>, _ start: Int, _ server: ServerSession) {
        if server.isOnTrial {
            // Of a batch on a replica the first statement only.
            guard server.olderStatement == nil, server.requests.isEmpty else { return }
            server.olderStatement = statement
        } else {
            guard server.transaction == .idle, server.owesSettingsOnly, !server.requests.isUnsynced,
                let end = Self.endOfBatch(bytes, start)
            else { return }
            server.keep(bytes.extracting(start..<end))
            self.keptStart = start
            self.route?.transactionBeforeTrial = .none
            server.trial = .older
            server.olderStatement = statement
        }
        server.statements.prove(statement, at: self.now)
    }

    /// Where the batch ends, behind its Sync or Flush; nil if that is not here yet, or if there is something else in it.
    private static func endOfBatch(_ bytes: Span<UInt8>, _ start: Int) -> Int? {
        var cursor = start
        while let header = MessageFramer.header(bytes, at: cursor), header.length < bytes.count - cursor {
            cursor += header.length + 1
            // A length is at least its own four bytes.
            guard header.length >= 4, cursor - start <= Self.longestTrial else { return nil }
            switch header.type {
            case Frontend.sync, Frontend.flush: return cursor
            case Frontend.parse, Frontend.bind, Frontend.describe, Frontend.execute, Frontend.close: break
            default: return nil
            }
        }
        return nil
    }

    /// Bytes of a batch that is kept.
    private static let longestTrial = 64 << 10

    @inline(never)
    private func prepareAnew(
        _ known: inout ClientStatement, _ name: Span<UInt8>, _ presence: ServerStatements.Presence,
        _ server: ServerSession
    ) -> Preparation {
        if server.isDescribing || self.awaitsMeaning(server) { return .awaits }
        if case .prepared(let description, _) = presence {
            if known.description.contradicts(description) {
                server.pool.catalogue.advance()
                return .changed
            }
        } else {
            let settings = self.parameters?.parsing ?? .none
            if server.isParsingUncertain && !known.statement.isOwn {
                // What it would be read with here is not what others with the same text have.
                let shared = known.statement
                known.statement = self.worker.statements.ownStatement(like: shared, settings)
                // Not where it stands in for the name's own, as a DEALLOCATE with another name does.
                if self.statements.find(name)?.statement === shared {
                    self.statements.replace(name, by: known.statement)
                }
            }
            let statement = known.statement
            let changes = settings.changes(to: statement.settings)
            if changes.isEmpty || server.transaction == .failed {
                self.sendParse(statement, server, .swallow, isThere: presence == .outdated, name: nil)
            } else {
                server.setInPassing(changes, self)
                self.sendParse(statement, server, .swallow, isThere: presence == .outdated, name: nil)
                server.setInPassing(statement.settings.changes(to: settings), self)
            }
        }
        // In a failed transaction the server refuses it in any case.
        guard !known.description.isEmpty, server.transaction != .failed else { return .ready }
        server.isDescribing = true
        server.effects.append(.described(known.statement, name: nil))
        server.requests.append(.describe, .swallow, hasEffect: true)
        server.send(
            MessageWriter.bytes {
                $0.describe(statement: known.statement.serverName)
                $0.flush()
            })
        return .awaits
    }

    /// What PostgreSQL says to a client whose statement returns something else than when it was prepared. Drivers know it by
    /// its routine.
    func sendResultTypeChanged(_ server: ServerSession) {
        var fields = ErrorFields(
            severity: "ERROR", sqlState: SQLState.featureNotSupported,
            message: "cached plan must not change result type")
        fields.fields.append(.init(code: UInt8(ascii: "R"), value: Array("RevalidateCachedQuery".utf8)))
        self.sendFailing(server, MessageWriter.bytes { $0.errorResponse(fields) })
    }

    /// A request that certainly fails, in the place of one that must; the client gets our words for it.
    func sendFailing(_ server: ServerSession, sqlState: String, _ text: String) {
        self.sendFailing(
            server,
            MessageWriter.bytes { $0.errorResponse(severity: "ERROR", sqlState: sqlState, message: text) })
    }

    func sendFailing(_ server: ServerSession, _ error: [UInt8]) {
        server.effects.append(.error(error))
        server.requests.append(.describe, .substitute, hasEffect: true)
        server.send(MessageWriter.bytes { $0.describe(statement: Array("martlet_none".utf8)) })
    }
}
