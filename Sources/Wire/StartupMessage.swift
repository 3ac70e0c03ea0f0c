// Normal forms have no public interface yet; a Swift that lacks this one does not compile, and nothing else goes wrong.
@_spi(_Unicode) import Swift

/// A setting as a startup packet gives it: a name, and a value as the client's bytes (its encoding may be any).
public struct StartupParameter: Sendable, Equatable {
    public let name: String
    public let value: [UInt8]

    public init(name: String, value: [UInt8]) {
        self.name = name
        self.value = value
    }

    /// A parameter with text as value.
    public init(name: String, value: String) {
        self.init(name: name, value: Array(value.utf8))
    }

    /// The value for people; what is not valid UTF-8 is replaced by U+FFFD.
    public var text: String { String(decoding: self.value, as: UTF8.self) }
}

/// A client's StartupMessage. Of a parameter that is given twice the last one holds, as in PostgreSQL.
///
/// A class, because a login hands it on many times and never changes it.
public final class StartupMessage: Sendable {
    /// The version asked for; 3.0 or newer, also newer than what is served.
    public let version: ProtocolVersion
    public let user: String
    /// The database, which is the user's name when the packet names none.
    public let database: String
    /// `replication`: a boolean, or "database"; nil when not given.
    public let replication: String?
    /// `options`, not taken apart; see `StartupOptions`.
    public let options: [UInt8]?
    /// All other parameters, in the packet's order.
    public let parameters: [StartupParameter]
    /// Names of the protocol extensions asked for (`_pq_.` …), which are no settings.
    public let extensions: [String]

    /// Reads the parameters, which are all bytes behind the packet's version.
    init(version: ProtocolVersion, parameters bytes: Span<UInt8>) throws(StartupPacketError) {
        var user = ""
        var database: String?
        var replication: String?
        var options: [UInt8]?
        var parameters: [StartupParameter] = []
        var extensions: [String] = []
        var reader = MessageReader(bytes, at: 0)
        while true {
            guard let nameRange = reader.cString() else { throw .invalidLayout }
            if nameRange.isEmpty { break }
            guard let valueRange = reader.cString() else { throw .invalidLayout }
            guard let name = bytes.validText(nameRange) else { throw .invalidText(bytes.text(nameRange)) }
            switch name {
            case "user": user = try Self.name(bytes, valueRange, of: name)
            case "database": database = try Self.name(bytes, valueRange, of: name)
            case "replication":
                replication = bytes.text(valueRange)
            case "options":
                options = bytes.copy(valueRange)
            default:
                if name.hasPrefix("_pq_.") {
                    extensions.append(name)
                } else {
                    parameters.append(StartupParameter(name: name, value: bytes.copy(valueRange)))
                }
            }
        }
        guard reader.left == 0 else { throw .invalidLayout }
        guard !user.isEmpty else { throw .missingUser }
        self.version = version
        self.user = user
        self.database = database.flatMap { $0.isEmpty ? nil : $0 } ?? user
        self.replication = replication
        self.options = options
        self.parameters = parameters
        self.extensions = extensions
    }

    /// A name to compare others with. Swift takes texts for equal that Unicode does (U+212A is a K, and "é" may be one
    /// character or two), but to PostgreSQL they are different users, of whom one must not get the other's connections.
    /// Of all that are equal only the one in normal form C is taken.
    private static func name(
        _ bytes: Span<UInt8>, _ range: Range<Int>, of parameter: String
    ) throws(StartupPacketError) -> String {
        guard let text = bytes.validText(range) else { throw .invalidText(parameter) }
        guard text.utf8.allSatisfy({ $0 < 0x80 }) || text._nfc.elementsEqual(text.unicodeScalars) else {
            throw .notNormalized(parameter)
        }
        return text
    }

    /// The value of a parameter other than user, database, replication and options; the name's case does not matter.
    public func value(of name: String) -> [UInt8]? {
        self.parameters.last { $0.name.lowercased() == name.lowercased() }?.value
    }
}

extension StartupMessage: Equatable {
    public static func == (left: StartupMessage, right: StartupMessage) -> Bool {
        left.version == right.version && left.user == right.user && left.database == right.database
            && left.replication == right.replication && left.options == right.options
            && left.parameters == right.parameters && left.extensions == right.extensions
    }
}
