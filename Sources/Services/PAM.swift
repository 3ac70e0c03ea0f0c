import CPAM
import Glibc

/// Asks the operating system's pluggable authentication modules (PAM).
public enum PAM {
    /// Whether the password is the user's, and the user may come in; else in the words of the module. Blocks for as
    /// long as the modules take.
    ///
    /// - Parameters:
    ///   - service: names the file in /etc/pam.d.
    ///   - password: without a NUL; it answers every question that is not to be seen while it is typed.
    ///   - host: where the user comes from; nil is this machine.
    public static func check(service: String, user: String, password: Span<UInt8>, host: String?)
        -> PasswordVerdict
    {
        // libpam takes strings of C, and a module may ask several times.
        let secret = UnsafeMutablePointer<CChar>.allocate(capacity: password.count + 1)
        defer {
            explicit_bzero(secret, password.count)
            secret.deallocate()
        }
        for index in password.indices { secret[index] = CChar(bitPattern: password[index]) }
        secret[password.count] = 0

        var conversation = pam_conv(conv: answer, appdata_ptr: UnsafeMutableRawPointer(secret))
        var handle: OpaquePointer?
        let started = pam_start(service, user, &conversation, &handle)
        guard started == PAM_SUCCESS, let handle else { return .refused("pam_start: \(text(started, nil))") }
        var code = PAM_SUCCESS
        defer { pam_end(handle, code) }
        // The pause behind a wrong password would be this thread's, and others wait for it.
        let noDelay: @convention(c) (CInt, CUnsignedInt, UnsafeMutableRawPointer?) -> Void = { _, _, _ in }
        _ = pam_set_item(handle, PAM_FAIL_DELAY, unsafeBitCast(noDelay, to: UnsafeRawPointer.self))
        if let host { code = host.withCString { pam_set_item(handle, PAM_RHOST, $0) } }
        let flags = CInt(PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK)
        if code == PAM_SUCCESS { code = pam_authenticate(handle, flags) }
        guard code == PAM_SUCCESS else { return .refused(text(code, handle)) }
        // Whether the account has expired, say.
        code = pam_acct_mgmt(handle, flags)
        return code == PAM_SUCCESS ? .right : .refused(text(code, handle))
    }

    private static func text(_ code: CInt, _ handle: OpaquePointer?) -> String {
        pam_strerror(handle, code).map { String(cString: $0) } ?? "error \(code)"
    }
}

/// Answers a module: the password to what is asked in secret, nothing to what is only said. libpam frees the answers.
private func answer(
    _ count: CInt, _ messages: UnsafeMutablePointer<UnsafePointer<pam_message>?>?,
    _ responses: UnsafeMutablePointer<UnsafeMutablePointer<pam_response>?>?, _ secret: UnsafeMutableRawPointer?
) -> CInt {
    guard count > 0, count <= PAM_MAX_NUM_MSG, let messages, let responses, let secret,
        let answers = calloc(Int(count), MemoryLayout<pam_response>.stride)?.assumingMemoryBound(to: pam_response.self)
    else { return PAM_CONV_ERR }
    for index in 0..<Int(count) {
        switch messages[index]?.pointee.msg_style {
        case PAM_PROMPT_ECHO_OFF: answers[index].resp = strdup(secret.assumingMemoryBound(to: CChar.self))
        case PAM_TEXT_INFO, PAM_ERROR_MSG: break
        default:
            // A question that has another answer than the password.
            for earlier in 0..<index { free(answers[earlier].resp) }
            free(answers)
            return PAM_CONV_ERR
        }
    }
    responses.pointee = answers
    return PAM_SUCCESS
}
