/// What others than the server say about a user's password.
public enum PasswordVerdict: Sendable, Equatable {
    /// It is the user's, and the user may come in.
    case right
    /// Why it does not let the user in, for the log: wrong, or whoever knows does not answer.
    case refused(String)
}
