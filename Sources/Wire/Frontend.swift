/// Type bytes of the messages a client sends (PostgreSQL manual, "Message Formats").
///
/// The startup packet and its relatives have no type byte; `StartupPacket` reads them.
public enum Frontend {
    public static let query = UInt8(ascii: "Q")
    public static let parse = UInt8(ascii: "P")
    public static let bind = UInt8(ascii: "B")
    public static let describe = UInt8(ascii: "D")
    public static let execute = UInt8(ascii: "E")
    public static let close = UInt8(ascii: "C")
    public static let sync = UInt8(ascii: "S")
    public static let flush = UInt8(ascii: "H")
    public static let functionCall = UInt8(ascii: "F")
    public static let copyData = UInt8(ascii: "d")
    public static let copyDone = UInt8(ascii: "c")
    public static let copyFail = UInt8(ascii: "f")
    public static let terminate = UInt8(ascii: "X")
    /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share one type byte.
    public static let password = UInt8(ascii: "p")

    /// Every type a client may send; anything else is a protocol violation.
    public static let all: MessageTypeSet = [
        query, parse, bind, describe, execute, close, sync, flush, functionCall, copyData, copyDone, copyFail,
        terminate, password,
    ]
}
