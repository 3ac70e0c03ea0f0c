import Reactor
import Sessions
import Settings

extension ServerEncryption {
    /// What the server's certificate has to show.
    func serverName(_ host: HostAddress) -> TLSServerName {
        let verification: TLSServerName.Verification =
            switch self.mode {
            case .disable, .allow, .prefer, .require: .none
            case .verifyCA: .authority
            case .verifyFull: .host
            }
        return TLSServerName(host: host.host, port: host.port, verification: verification, isDirect: self.isDirect)
    }
}
