@testable import Authentication

extension FuzzTarget {
    /// Which names of the system may log in as which users.
    static let ident = FuzzTarget(name: "ident") { bytes in
        let (maps, problems) = load(bytes)
        for problem in problems { try expect(problem.hasPrefix("ident:"), "a problem without its place: \(problem)") }
        let remarks = load(Array("# m root postgres\n\n".utf8) + bytes).maps
        for system in ["root", "anna@example.com", "", "a\nb", "Anna", "\u{212A}ate"] {
            for user in ["postgres", "anna", "root", "", "\\1", "Kate"] {
                let isSame = system.utf8.elementsEqual(user.utf8)
                try expect(maps.allow(system, as: user, map: nil) == isSame, "no map is no other name")
                try expect(!maps.allow(system, as: user, map: "there is no such map"), "a map that is not there")
                for map in ["m", "n"] {
                    let isAllowed = maps.allow(system, as: user, map: map)
                    try expect(!isAllowed || maps.contains(map), "allowed by a map that is not there")
                    try expect(isAllowed == remarks.allow(system, as: user, map: map), "remarks count")
                }
            }
        }
    }

    private static func load(_ bytes: [UInt8]) -> (maps: IdentMaps, problems: [String]) {
        IdentMaps.parse(bytes.span, file: "ident") { _ in .success(Array("postgres".utf8)) }
    }
}
