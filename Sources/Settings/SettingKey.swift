/// One row of the table of settings: everything that reading, checking, showing and changing a key needs to know.
///
/// `Root` is the structure the value lives in. The default is what a fresh `Root` holds, so it is written down once.
struct SettingKey<Root: Sendable>: Sendable {
    /// Whether the key does something in this version.
    enum Effect: Sendable, Equatable {
        case works
        /// Understood, checked, and without effect so far. Values among `neutral` ask for nothing.
        case none(neutral: Set<String>)

        /// Without effect, and nothing is asked for by a value that switches off.
        static var none: Self { .none(neutral: ["", "0", "off", "disable"]) }
    }

    let name: String
    /// False when a change needs a restart.
    var isReloadable = true
    var effect = Effect.works
    /// True for passwords, which are never shown.
    var isSecret = false
    /// Checks a text of the file and stores its value.
    let parse: @Sendable (_ text: String, _ root: inout Root) throws(InvalidValue) -> Void
    /// The value as PgBouncer's console prints it; nil when there is none.
    let print: @Sendable (_ root: Root) -> String?

    /// The same key, whose changes need a restart.
    var needsRestart: Self {
        var key = self
        key.isReloadable = false
        return key
    }

    /// The same key, which has no effect yet.
    var withoutEffect: Self {
        var key = self
        key.effect = .none
        return key
    }

    /// These keys, none of which has an effect yet.
    static func withoutEffect(_ keys: [Self]) -> [Self] {
        keys.map(\.withoutEffect)
    }

    /// The same key, whose value is a secret.
    var secret: Self {
        var key = self
        key.isSecret = true
        return key
    }

    /// The value for people: as printed, but a secret is only said to be there.
    func show(_ root: Root) -> String? {
        let value = self.print(root)
        return self.isSecret && value != nil ? "********" : value
    }
}

extension SettingKey {
    typealias Path<Value> = any WritableKeyPath<Root, Value> & Sendable

    static func integer(_ name: String, _ path: Path<Int>, _ bounds: ClosedRange<Int> = 0...Int(Int32.max)) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = try ValueText.integer(text, bounds) },
            print: { String($0[keyPath: path]) })
    }

    /// A number of bytes, also with a unit.
    static func size(_ name: String, _ path: Path<Int>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = try ValueText.size(text) },
            print: { String($0[keyPath: path]) })
    }

    /// An integer that may be left out; -1 leaves it out too, as in PgBouncer.
    static func optionalInteger(
        _ name: String, _ path: Path<Int?>, _ bounds: ClosedRange<Int> = 0...Int(Int32.max)
    ) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in
                root[keyPath: path] = text == "-1" ? nil : try ValueText.integer(text, bounds)
            },
            print: { $0[keyPath: path].map { String($0) } })
    }

    /// A file mode in C's notation: octal with a leading 0.
    static func fileMode(_ name: String, _ path: Path<Int>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = try ValueText.fileMode(text) },
            print: { "0" + String($0[keyPath: path], radix: 8) })
    }

    static func flag(_ name: String, _ path: Path<Bool>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = try ValueText.flag(text) },
            print: { $0[keyPath: path] ? "1" : "0" })
    }

    static func time(_ name: String, _ path: Path<Microseconds>, atLeast least: Microseconds = 0) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in
                root[keyPath: path] = try DurationText.parse(text, atLeast: least)
            },
            print: { DurationText.print($0[keyPath: path]) })
    }

    /// A time that may be left out; -1 leaves it out too, as in PgBouncer.
    static func optionalTime(
        _ name: String, _ path: Path<Microseconds?>, atLeast least: Microseconds = 0
    ) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in
                root[keyPath: path] = text == "-1" ? nil : try DurationText.parse(text, atLeast: least)
            },
            print: { $0[keyPath: path].map(DurationText.print) })
    }

    static func text(_ name: String, _ path: Path<String>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = text },
            print: { $0[keyPath: path] })
    }

    /// A text that may be left out; an empty one leaves it out too.
    static func optionalText(_ name: String, _ path: Path<String?>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = text.isEmpty ? nil : text },
            print: { $0[keyPath: path] })
    }

    /// A text made of certain words with commas or colons between them, each perhaps with a `!` for not.
    static func words(_ name: String, _ path: Path<String>, among words: [String]) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in
                for word in text.split(whereSeparator: { $0 == "," || $0 == ":" || ValueText.isBlank($0) }) {
                    let _: String = try ValueText.word(
                        String(word.first == "!" ? word.dropFirst() : word), among: words)
                }
                root[keyPath: path] = text
            },
            print: { $0[keyPath: path] })
    }

    /// Names with commas between them.
    static func list(_ name: String, _ path: Path<[String]>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = ValueText.list(text) },
            print: { $0[keyPath: path].joined(separator: ", ") })
    }

    /// Names with commas between them, which may be left out.
    static func optionalList(_ name: String, _ path: Path<[String]?>) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in root[keyPath: path] = ValueText.list(text) },
            print: { $0[keyPath: path]?.joined(separator: ", ") })
    }

    /// One of a few words.
    static func choice<Choice: RawRepresentable<String> & CaseIterable & Sendable & Hashable>(
        _ name: String, _ path: Path<Choice>
    ) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in
                root[keyPath: path] = try ValueText.choice(text)
            },
            print: { $0[keyPath: path].rawValue })
    }

    /// One of a few words, which may be left out.
    static func optionalChoice<Choice: RawRepresentable<String> & CaseIterable & Sendable & Hashable>(
        _ name: String, _ path: Path<Choice?>
    ) -> Self {
        Self(
            name: name,
            parse: { (text, root) throws(InvalidValue) in
                root[keyPath: path] = try ValueText.choice(text)
            },
            print: { $0[keyPath: path]?.rawValue })
    }
}
