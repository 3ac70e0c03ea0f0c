/// Messages of the client's side.
extension MessageWriter {
    /// A StartupMessage.
    ///
    /// - Parameter parameters: `user` and the others; one with an empty name is left out, as it would end the list.
    public mutating func startup(version: ProtocolVersion = .v30, parameters: [StartupParameter]) {
        self.begin(nil)
        self.uint32(version.code)
        for parameter in parameters where (parameter.name.utf8.first ?? 0) != 0 {
            self.cString(parameter.name)
            self.cString(parameter.value)
        }
        self.byte(0)
        self.end()
    }

    public mutating func sslRequest() {
        self.begin(nil)
        self.uint32(StartupPacket.sslCode)
        self.end()
    }

    /// - Parameter key: process id and secret, as BackendKeyData gave them.
    public mutating func cancelRequest(key: [UInt8]) {
        self.begin(nil)
        self.uint32(StartupPacket.cancelCode)
        self.raw(key)
        self.end()
    }

    public mutating func query(_ text: String) {
        self.begin(Frontend.query)
        self.cString(text)
        self.end()
    }

    public mutating func query(_ text: [UInt8]) {
        self.begin(Frontend.query)
        self.cString(text)
        self.end()
    }

    /// - Parameter password: the password, or its MD5 answer.
    public mutating func passwordMessage(_ password: [UInt8]) {
        self.begin(Frontend.password)
        self.cString(password)
        self.end()
    }

    public mutating func saslInitialResponse(mechanism: String, _ data: [UInt8]) {
        self.begin(Frontend.password)
        self.cString(mechanism)
        self.int32(Int32(clamping: data.count))
        self.raw(data)
        self.end()
    }

    public mutating func saslResponse(_ data: [UInt8]) {
        self.begin(Frontend.password)
        self.raw(data)
        self.end()
    }

    /// - Parameter tail: everything behind the statement's name: the query with its NUL, and the parameter types.
    public mutating func parse(statement: [UInt8], tail: [UInt8]) {
        self.begin(Frontend.parse)
        self.cString(statement)
        self.raw(tail)
        self.end()
    }

    /// Writes a Bind message's header and names, for a body that follows by itself.
    ///
    /// - Parameter bodyLength: bytes behind the two names.
    public mutating func bindPrefix(portal: [UInt8], statement: [UInt8], bodyLength: Int) {
        self.begin(Frontend.bind)
        self.cString(portal)
        self.cString(statement)
        self.end(following: bodyLength)
    }

    public mutating func describe(statement: [UInt8]) {
        self.target(Frontend.describe, MessageTarget.statement, statement)
    }

    public mutating func close(statement: [UInt8]) {
        self.target(Frontend.close, MessageTarget.statement, statement)
    }

    public mutating func close(portal: [UInt8]) {
        self.target(Frontend.close, MessageTarget.portal, portal)
    }

    private mutating func target(_ type: UInt8, _ kind: UInt8, _ name: [UInt8]) {
        self.begin(type)
        self.byte(kind)
        self.cString(name)
        self.end()
    }

    public mutating func execute(portal: String, maximumRows: Int32 = 0) {
        self.begin(Frontend.execute)
        self.cString(portal)
        self.int32(maximumRows)
        self.end()
    }

    public mutating func sync() { self.empty(Frontend.sync) }

    public mutating func flush() { self.empty(Frontend.flush) }

    public mutating func terminate() { self.empty(Frontend.terminate) }
}
