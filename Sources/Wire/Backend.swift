/// Type bytes of the messages a server sends (PostgreSQL manual, "Message Formats").
public enum Backend {
    public static let authentication = UInt8(ascii: "R")
    public static let backendKeyData = UInt8(ascii: "K")
    public static let bindComplete = UInt8(ascii: "2")
    public static let closeComplete = UInt8(ascii: "3")
    public static let commandComplete = UInt8(ascii: "C")
    public static let copyBothResponse = UInt8(ascii: "W")
    public static let copyData = UInt8(ascii: "d")
    public static let copyDone = UInt8(ascii: "c")
    public static let copyInResponse = UInt8(ascii: "G")
    public static let copyOutResponse = UInt8(ascii: "H")
    public static let dataRow = UInt8(ascii: "D")
    public static let emptyQueryResponse = UInt8(ascii: "I")
    public static let errorResponse = UInt8(ascii: "E")
    public static let functionCallResponse = UInt8(ascii: "V")
    public static let negotiateProtocolVersion = UInt8(ascii: "v")
    public static let noData = UInt8(ascii: "n")
    public static let noticeResponse = UInt8(ascii: "N")
    public static let notificationResponse = UInt8(ascii: "A")
    public static let parameterDescription = UInt8(ascii: "t")
    public static let parameterStatus = UInt8(ascii: "S")
    public static let parseComplete = UInt8(ascii: "1")
    public static let portalSuspended = UInt8(ascii: "s")
    public static let readyForQuery = UInt8(ascii: "Z")
    public static let rowDescription = UInt8(ascii: "T")

    /// Every type a server may send; anything else is a protocol violation.
    public static let all: MessageTypeSet = [
        authentication, backendKeyData, bindComplete, closeComplete, commandComplete, copyBothResponse, copyData,
        copyDone, copyInResponse, copyOutResponse, dataRow, emptyQueryResponse, errorResponse, functionCallResponse,
        negotiateProtocolVersion, noData, noticeResponse, notificationResponse, parameterDescription, parameterStatus,
        parseComplete, portalSuspended, readyForQuery, rowDescription,
    ]
}
