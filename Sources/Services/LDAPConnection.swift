import CLDAP
import Glibc
public import Reactor

/// Why a directory has not done what it was asked to.
public struct LDAPError: Error, Equatable, CustomStringConvertible {
    /// What was asked, and the answer in the words of libldap and of the directory.
    public let description: String
    /// Nothing was decided: the directory cannot be reached, does not answer or has no time. Another one may be asked.
    public let isUnavailable: Bool

    fileprivate init(_ what: String, code: CInt, diagnostics: String? = nil) {
        let text = ldap_err2string(code).map { String(cString: $0) } ?? "error"
        self.description = "\(what): \(text) (\(code))" + (diagnostics.map { ": \($0)" } ?? "")
        self.isUnavailable = [
            LDAP_SERVER_DOWN, LDAP_TIMEOUT, LDAP_CONNECT_ERROR, LDAP_BUSY, LDAP_UNAVAILABLE,
        ].contains(code)
    }
}

/// A connection to a directory by LDAP version 3. All that it does blocks; to be used on one thread.
///
/// Certificates are verified as libldap is told to by ldap.conf(5) and the environment.
public final class LDAPConnection {
    /// How deep a search goes.
    public enum Scope: Sendable {
        /// Only the base itself.
        case base
        /// Only what stands directly below the base.
        case oneLevel
        case subtree
    }

    /// The longest that a single step may take: to connect, to encrypt, or an answer. In microseconds, as all times.
    public static let patience: MonotonicTime = 3_000_000

    private let handle: OpaquePointer
    private let deadline: MonotonicTime
    private let watch = LDAPWatch()
    private let callbacks: UnsafeMutablePointer<ldap_conncb>

    /// Connects; with `ldaps://` the certificate has been verified then.
    ///
    /// - Parameters:
    ///   - uri: `ldap://host:port` or `ldaps://host:port`.
    ///   - deadline: when the answer is of no use any more.
    public init(to uri: String, until deadline: MonotonicTime) throws(LDAPError) {
        _ = Self.isPrepared
        var handle: OpaquePointer?
        let code = ldap_initialize(&handle, uri)
        guard code == LDAP_SUCCESS, let handle else { throw LDAPError("initialize", code: code) }
        self.handle = handle
        self.deadline = deadline
        self.callbacks = UnsafeMutablePointer<ldap_conncb>.allocate(capacity: 1)
        self.callbacks.initialize(to: self.watch.makeCallbacks())
        var version = LDAP_VERSION3
        try self.set(LDAP_OPT_PROTOCOL_VERSION, &version)
        // A directory may name another one to go on with: nobody has said that that one may see passwords.
        try self.set(LDAP_OPT_REFERRALS, nil)
        try self.set(LDAP_OPT_CONNECT_CB, self.callbacks)
        try self.take("connect") { handle, _ in ldap_connect(handle) }
    }

    deinit {
        ldap_unbind_ext_s(self.handle, nil, nil)
        self.callbacks.deallocate()
    }

    /// libldap reads its configuration at the first call, which must be one thread's.
    private static let isPrepared: Bool = {
        var version: CInt = 0
        return ldap_get_option(nil, LDAP_OPT_PROTOCOL_VERSION, &version) == LDAP_SUCCESS
    }()

    /// Goes on with TLS (StartTLS); the certificate has been verified then.
    public func startTLS() throws(LDAPError) {
        try self.take("StartTLS") { handle, _ in ldap_start_tls_s(handle, nil, nil) }
    }

    /// Shows who asks, by a simple bind.
    ///
    /// - Parameters:
    ///   - name: whose password it is; empty, together with the password, for nobody.
    ///   - password: not empty, or the directory takes it for nobody's and agrees.
    public func bind(name: String, password: Span<UInt8>) throws(LDAPError) {
        guard name.isEmpty == password.isEmpty else { throw LDAPError("bind", code: LDAP_INVALID_CREDENTIALS) }
        let secret = UnsafeMutablePointer<CChar>.allocate(capacity: password.count + 1)
        defer {
            explicit_bzero(secret, password.count)
            secret.deallocate()
        }
        for index in password.indices { secret[index] = CChar(bitPattern: password[index]) }
        var credentials = berval(bv_len: ber_len_t(password.count), bv_val: secret)
        try self.take("bind") { handle, _ in ldap_sasl_bind_s(handle, name, nil, &credentials, nil, nil, nil) }
    }

    /// The names of the entries that fit; of two or more, two.
    public func search(base: String, scope: Scope, filter: String) throws(LDAPError) -> [String] {
        var result: OpaquePointer?
        defer { ldap_msgfree(result) }
        var noAttributes = Array("1.1".utf8CString)
        var isLimited = false
        try self.take("search") { handle, time in
            let code = noAttributes.withUnsafeMutableBufferPointer { text in
                var attributes: [UnsafeMutablePointer<CChar>?] = [text.baseAddress, nil]
                return ldap_search_ext_s(
                    handle, base, scope.code, filter, &attributes, 0, nil, nil, &time, 2, &result)
            }
            // Three and more are not counted.
            isLimited = code == LDAP_SIZELIMIT_EXCEEDED
            return isLimited ? LDAP_SUCCESS : code
        }
        var names: [String] = []
        var entry = result.flatMap { ldap_first_entry(self.handle, $0) }
        while let found = entry {
            guard let name = ldap_get_dn(self.handle, found) else {
                throw LDAPError("search", code: LDAP_DECODING_ERROR)
            }
            defer { ldap_memfree(name) }
            guard let text = String(validatingCString: name) else {
                throw LDAPError("search", code: LDAP_INVALID_DN_SYNTAX)
            }
            names.append(text)
            entry = ldap_next_entry(self.handle, found)
        }
        // A directory's own limit: there may be more than we are told of.
        guard names.count > 1 || !isLimited else { throw LDAPError("search", code: LDAP_SIZELIMIT_EXCEEDED) }
        return names
    }

    /// Takes one step, for as long as one may take.
    private func take(
        _ step: String, _ call: (_ handle: OpaquePointer, _ time: inout timeval) -> CInt
    ) throws(LDAPError) {
        let left = min(Self.patience, self.deadline - monotonicNow())
        guard left > 0 else { throw LDAPError(step, code: LDAP_TIMEOUT) }
        var time = timeval(tv_sec: Int(left) / 1_000_000, tv_usec: Int(left) % 1_000_000)
        try self.set(LDAP_OPT_NETWORK_TIMEOUT, &time)
        try self.set(LDAP_OPT_TIMEOUT, &time)
        // A little later, since libldap knows better what it was that took so long.
        let code = self.watch.limit(Int(left) + 100_000) { call(self.handle, &time) }
        try self.check(step, code)
    }

    private func set(_ option: CInt, _ value: UnsafeRawPointer?) throws(LDAPError) {
        let code = ldap_set_option(self.handle, option, value)
        guard code == LDAP_OPT_SUCCESS else { throw LDAPError("set option \(option)", code: code) }
    }

    private func check(_ step: String, _ code: CInt) throws(LDAPError) {
        guard code != LDAP_SUCCESS else { return }
        var text: UnsafeMutablePointer<CChar>?
        ldap_get_option(self.handle, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text)
        defer { ldap_memfree(text) }
        let diagnostics = text.map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
        throw LDAPError(step, code: code, diagnostics: diagnostics)
    }
}

extension LDAPConnection.Scope {
    fileprivate var code: CInt {
        switch self {
        case .base: CInt(LDAP_SCOPE_BASE)
        case .oneLevel: CInt(LDAP_SCOPE_ONELEVEL)
        case .subtree: CInt(LDAP_SCOPE_SUBTREE)
        }
    }
}
