/// One entry of the section [peers]: another process that cancel requests may belong to.
public struct PeerSettings: Sendable, Equatable {
    /// The largest number of a peer, bounded by the room for it in a cancel key.
    static let largestID = 16383

    /// The peer's number, 1 to 16383.
    public var id: Int
    /// Where the peer listens.
    public var address = HostAddress(host: "", port: 6432)
    /// Cancel requests under way at once; nil takes `default_pool_size`.
    public var poolSize: Int?

    /// Makes an entry with nothing but a number.
    public init(id: Int) {
        self.id = id
    }
}

extension PeerSettings {
    /// The keys of a value in [peers].
    static let keys: [SettingKey<Self>] = [
        SettingKey(
            name: "host",
            parse: { (text, root) throws(InvalidValue) in
                guard !text.isEmpty else { throw InvalidValue("needs a value") }
                root.address.host = text
            },
            print: \.address.host),
        .integer("port", \.address.port, 1...65535),
        .optionalInteger("pool_size", \.poolSize),
    ]

    /// The keys by name.
    static let keysByName = Dictionary(keys.map { ($0.name, $0) }) { first, _ in first }
}
