// swift-tools-version: 6.2
import PackageDescription

/// Settings of every Swift target.
let common: [SwiftSetting] = [
    // `any` marks each existential, so that none slips onto the path of a query unseen.
    .enableUpcomingFeature("ExistentialAny"),
    // An import is private to its file unless it says otherwise: layers stay visible in the `public import` lines.
    .enableUpcomingFeature("InternalImportsByDefault"),
    // A member is used only where its module is imported.
    .enableUpcomingFeature("MemberImportVisibility"),
    // Methods that return a span of their own storage need lifetime annotations.
    .enableExperimentalFeature("Lifetimes"),
    // Class properties are confined to one thread, so the dynamic exclusivity check can find nothing the compiler
    // and the tests (debug builds keep it) do not; it costs some 10 ns for each property access on the path of a query.
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
    // Layers are modules of their own, and what crosses them is small and called for each message: every ninth
    // instruction of a query.
    .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)),
]

/// Settings of the targets that read bytes from the network or decide about them: no pointer without the word `unsafe`.
let pure: [SwiftSetting] = common + [.strictMemorySafety()]

/// What reads bytes of strangers, with what has to hold: for libFuzzer a program (see Integration/fuzz), else tests.
let fuzzTargets = ["Admin", "Authentication", "SQL", "Settings", "TestSupport", "Wire"] as [Target.Dependency]
let fuzz: Target =
    Context.environment["MARTLET_FUZZ"] == nil
    ? .testTarget(
        name: "FuzzTests", dependencies: fuzzTargets, path: "Fuzz", exclude: ["Corpora", "Dictionaries"],
        swiftSettings: common)
    : .executableTarget(
        name: "fuzz", dependencies: fuzzTargets, path: "Fuzz", exclude: ["Corpora", "Dictionaries"],
        swiftSettings: common + [.define("MARTLET_FUZZ")])

let package = Package(
    name: "martlet",
    products: [.executable(name: "martlet", targets: ["martlet"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // C: declarations that the Glibc module lacks, and system libraries.
        .target(name: "CLinux"),
        .target(name: "CURing", linkerSettings: [.linkedLibrary("uring")]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CLDAP", pkgConfig: "ldap", providers: [.apt(["libldap-dev"])]),
        .systemLibrary(name: "CPAM", providers: [.apt(["libpam0g-dev"])]),
        .systemLibrary(name: "CPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "CPGQuery", providers: [.apt(["libpg-query-dev", "libprotobuf-c-dev"])]),

        // What starts a thread, for the two targets below that have some.
        .target(name: "Threads", dependencies: ["CLinux"], swiftSettings: common),

        // Event loops, sockets, timers, buffers. The only target that touches the network.
        .target(
            name: "Reactor",
            dependencies: [
                "CLinux", "COpenSSL", "CURing", "Threads",
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: common),

        // Pure layers: bytes and times in, actions out.
        .target(name: "Settings", swiftSettings: pure),
        .target(name: "Authentication", dependencies: ["COpenSSL"], swiftSettings: pure),
        .target(name: "Wire", swiftSettings: pure),
        .target(
            name: "Pooling",
            dependencies: ["Settings", "Wire", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: pure),

        .target(name: "SQL", dependencies: ["CPGQuery"], swiftSettings: pure),
        .target(name: "Routing", dependencies: ["Settings"], swiftSettings: pure),

        // What blocks: host names, key derivations, PAM, directories; on threads of its own.
        .target(
            name: "Services",
            dependencies: [
                "Authentication", "CLDAP", "CLinux", "CPAM", "Reactor",
                .product(name: "DequeModule", package: "swift-collections"),
            ],
            swiftSettings: common),

        // Sessions decided without a socket: logins, and what requests ask for. What it declares is public, for the optimizer
        // specializes and inlines nothing else in Proxy.
        .target(
            name: "Sessions",
            dependencies: ["Authentication", "Pooling", "Routing", "SQL", "Settings", "Wire"], swiftSettings: pure),

        // The control plane of routed databases: watches servers from threads of its own.
        .target(
            name: "Topology",
            dependencies: [
                "CPQ", "Routing", "SQL", "Settings", "Threads", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: common),

        // Client and server sessions on reactors.
        .target(
            name: "Proxy",
            dependencies: [
                "Authentication", "Pooling", "Reactor", "Routing", "SQL", "Services", "Sessions", "Settings",
                "Topology",
                "Wire",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: pure),

        // The console (database "pgbouncer").
        .target(
            name: "Admin",
            dependencies: [
                "Pooling", "Proxy", "Sessions", "Settings", "Wire", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: common),

        .executableTarget(
            name: "martlet",
            dependencies: [
                "Admin", "Authentication", "CLinux", "Proxy", "Reactor", "Settings", "Topology",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: common),

        // For the bench: a server that is never the limit.
        .executableTarget(
            name: "standin", dependencies: ["Reactor", "Wire"], path: "Integration/standin", swiftSettings: common),

        .target(
            name: "TestSupport", dependencies: ["Authentication", "Wire"], path: "Tests/TestSupport",
            swiftSettings: common),
        .testTarget(name: "SettingsTests", dependencies: ["Settings"], swiftSettings: common),
        .testTarget(
            name: "AuthenticationTests", dependencies: ["Authentication", "TestSupport"], swiftSettings: common),
        .testTarget(name: "WireTests", dependencies: ["Wire", "TestSupport"], swiftSettings: common),
        .testTarget(name: "PoolingTests", dependencies: ["Pooling", "TestSupport"], swiftSettings: common),
        .testTarget(name: "SQLTests", dependencies: ["SQL", "TestSupport"], swiftSettings: common),
        .testTarget(name: "RoutingTests", dependencies: ["Routing", "Settings"], swiftSettings: common),
        .testTarget(
            name: "TopologyTests",
            dependencies: ["Routing", "SQL", "Settings", "Topology", .product(name: "Logging", package: "swift-log")],
            swiftSettings: common),
        .testTarget(name: "ReactorTests", dependencies: ["COpenSSL", "Reactor"], swiftSettings: common),
        .testTarget(
            name: "ServicesTests",
            dependencies: ["Authentication", "COpenSSL", "Reactor", "Services", "Settings", "TestSupport"],
            swiftSettings: common),
        .testTarget(
            name: "SessionsTests",
            dependencies: [
                "Authentication", "COpenSSL", "Routing", "SQL", "Sessions", "Settings", "TestSupport", "Wire",
            ],
            swiftSettings: common),
        .testTarget(name: "ProxyTests", dependencies: ["Proxy", "TestSupport"], swiftSettings: common),
        .testTarget(name: "AdminTests", dependencies: ["Admin", "Sessions", "Settings"], swiftSettings: common),
        .testTarget(name: "MartletTests", dependencies: ["martlet"], swiftSettings: common),
        fuzz,
    ],
    swiftLanguageModes: [.v6]
)
