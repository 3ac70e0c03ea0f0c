@testable import Authentication

extension FuzzTarget {
    /// Which names of the system may log in as which users.
    static let ident = FuzzTarget(name: "ident") { bytes in
        let (maps, problems) = load(bytes)
        for problem in problems { try expect(problem.hasPrefix("ident:"), "a problem without its place: \(problem)") }
        let remarks = load(Array("# m root postgres\n\n".utf8) + bytes).maps
        for system in ["root", "anna@example.com", "", "a\nb", "Anna"] {
            for user in ["postgres", "anna", "root", "", "\\1"] {
                try expect(maps.allow(system, as: user, map: nil) == (system == user), "no map is no other name")
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
