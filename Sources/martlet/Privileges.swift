import Glibc

/// The user that the process runs as.
struct Privileges {
    let name: String
    let user: uid_t
    let group: gid_t

    /// Looks a user up; nil when the process need not change.
    ///
    /// - Parameter name: of `-u` or the setting `user`; empty for none.
    /// - Throws: when the process is root's and would stay so, when there is no such user, or when the process may
    ///   not become it.
    static func toTake(name: String, effectiveUser: uid_t = geteuid()) throws(LaunchError) -> Privileges? {
        guard !name.isEmpty else {
            if effectiveUser == 0 {
                throw LaunchError("martlet does not run as root: name another user with -u, or in the setting user")
            }
            return nil
        }
        guard let entry = getpwnam(name) else { throw LaunchError("there is no user named \(name)") }
        let privileges = Privileges(name: name, user: entry.pointee.pw_uid, group: entry.pointee.pw_gid)
        if privileges.user == 0 { throw LaunchError("martlet does not run as root, and \(name) is root") }
        if privileges.user == effectiveUser { return nil }
        if effectiveUser != 0 { throw LaunchError("only root can change to user \(name)") }
        return privileges
    }

    /// Becomes the user, for good.
    func take() throws(LaunchError) {
        guard initgroups(self.name, self.group) == 0, setgid(self.group) == 0, setuid(self.user) == 0 else {
            throw LaunchError("cannot change to user \(self.name): \(LaunchError.systemReason)")
        }
        // If root can be had back, it was not given up.
        guard setuid(0) != 0, geteuid() == self.user, getegid() == self.group else {
            throw LaunchError("cannot give up root's rights")
        }
    }
}
