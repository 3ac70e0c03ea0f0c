import Reactor

/// All that blocks, on threads of its own. One value for the process, which all reactors have.
package struct Services: Sendable {
    /// Host names to addresses.
    package let resolver: Resolver
    package let derivations = KeyDerivations()
    /// Those who wait for PAM and directories.
    package let slowLogins = SlowLogins()
    package let directories = Directories()

    /// - Parameters:
    ///   - maximumTTL: `dns_max_ttl`, microseconds.
    ///   - negativeTTL: `dns_nxdomain_ttl`, microseconds.
    package init(maximumTTL: Int64, negativeTTL: Int64) {
        self.resolver = Resolver(maximumTTL: maximumTTL, negativeTTL: negativeTTL)
    }
}
