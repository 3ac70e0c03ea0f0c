@testable import Settings

/// Loads a configuration out of a dictionary of files.
func load(
    files: [String: String], path: String = "martlet.ini"
) -> (settings: Settings?, diagnostics: [Diagnostic]) {
    Settings.load(path: path) { name in
        files[name].map { .success(Array($0.utf8)) } ?? .failure(FileError("No such file or directory"))
    }
}

/// Loads a configuration that is one file.
func load(_ text: String) -> (settings: Settings?, diagnostics: [Diagnostic]) {
    load(files: ["martlet.ini": text])
}

/// The texts of the errors of a configuration that is one file.
func errors(_ text: String) -> [String] {
    load(text).diagnostics.filter { $0.severity == .error }.map(\.description)
}

/// A database out of its connection string, nil when it has an error.
func database(_ connectionString: String, named name: String = "shop") -> DatabaseSettings? {
    load("[databases]\n\(name) = \(connectionString)").settings?.database(named: name)
}
