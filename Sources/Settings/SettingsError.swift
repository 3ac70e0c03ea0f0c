/// Why a setting could not be changed, in words fit for the console and the log.
public struct SettingsError: Error, Equatable, Sendable, CustomStringConvertible {
    /// One sentence without a full stop. Contains no password.
    public var message: String

    public var description: String { self.message }

    /// Makes an error of its text.
    public init(_ message: String) {
        self.message = message
    }
}

/// Why a file of the configuration could not be read. Made by the caller of `Settings.load`, who owns the file system.
public struct FileError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The reason without the name of the file, such as "No such file or directory".
    public var reason: String

    public var description: String { self.reason }

    /// Makes an error of its reason.
    public init(_ reason: String) {
        self.reason = reason
    }
}

/// What is wrong with a value; reads on from the name of its key: "must be a number, not "x"".
struct InvalidValue: Error, Equatable {
    var reason: String

    init(_ reason: String) {
        self.reason = reason
    }
}
