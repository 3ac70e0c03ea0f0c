import Testing

@testable import Services

struct DirectoriesTests {
    @Test("servers that are away are asked last, and after a while first again, by one login at a time")
    func order() {
        let directories = Directories()
        let servers = ["a", "b", "c"]
        #expect(directories.inOrder(servers, now: 0) == servers)
        directories.noteAbsence(of: "a", now: 0)
        directories.noteAbsence(of: "b", now: 5)
        #expect(directories.inOrder(servers, now: 10) == ["c", "a", "b"])
        #expect(directories.inOrder(["a"], now: 10) == ["a"])
        #expect(directories.inOrder(servers, now: Directories.pause) == ["a", "c", "b"])
        #expect(directories.inOrder(servers, now: Directories.pause + 1) == ["c", "a", "b"])
        directories.noteAnswer(of: "a")
        #expect(directories.inOrder(servers, now: Directories.pause + 2) == ["a", "c", "b"])
    }
}
