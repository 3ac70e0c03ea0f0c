// Known clusters as text, for the state file: lines of words, `%20` and so on for what is no ordinary character.
extension KnownClusters {
    private static let title = "martlet-state 1"

    /// Why a text is none of those.
    public struct Damage: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    /// Writes clusters as text.
    public static func text(_ clusters: [Cluster]) -> String {
        var lines = [self.title]
        for cluster in clusters {
            let memory = cluster.memory
            lines.append(
                "cluster \(memory.systemIdentifier.map { String($0) } ?? "-") timeline \(memory.highestTimeline)")
            if let primary = memory.primary { lines.append("primary \(self.escaped(primary))") }
            for (server, timeline) in memory.fenced.sorted(by: { $0.key < $1.key }) {
                lines.append("fenced \(self.escaped(server)) \(timeline)")
            }
            for place in cluster.places.sorted() { lines.append("place \(self.escaped(place))") }
            for (server, time) in cluster.starts.sorted(by: { $0.key < $1.key }) {
                lines.append("start \(self.escaped(server)) \(self.escaped(time))")
            }
            for database in cluster.databases.sorted() { lines.append("database \(self.escaped(database))") }
        }
        let body = lines.map { $0 + "\n" }.joined()
        return body + "end \(self.checksum(body.utf8))\n"
    }

    /// Reads what `text` has written.
    public static func parse(_ bytes: [UInt8]) -> Result<[Cluster], Damage> {
        let start = Array("\(self.title)\n".utf8)
        guard bytes.starts(with: start) else {
            return .failure(Damage(description: "it is no state file of Martlet's"))
        }
        let text = String(decoding: bytes, as: UTF8.self)
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let body = lines.dropLast(2).map { $0 + "\n" }.joined()
        guard lines.last == "", lines.dropLast().last == "end \(self.checksum(body.utf8))" else {
            return .failure(Damage(description: "its end is missing, or it was changed"))
        }
        lines.removeLast(2)
        var clusters: [Cluster] = []
        for (number, line) in lines.enumerated().dropFirst() {
            let words = line.split(separator: " ").map { String($0) }
            guard self.read(words, &clusters) else {
                return .failure(Damage(description: "line \(number + 1) is not understood"))
            }
        }
        return .success(clusters)
    }

    private static func read(_ words: [String], _ clusters: inout [Cluster]) -> Bool {
        if words.first == "cluster" {
            guard words.count == 4, words[2] == "timeline", let timeline = UInt32(words[3]) else { return false }
            var cluster = Cluster()
            cluster.memory.highestTimeline = timeline
            if words[1] != "-" {
                guard let identifier = UInt64(words[1]) else { return false }
                cluster.memory.systemIdentifier = identifier
            }
            clusters.append(cluster)
            return true
        }
        guard !clusters.isEmpty, words.count > 1, let name = self.unescaped(words[1]) else { return false }
        let last = clusters.count - 1
        switch (words[0], words.count) {
        case ("primary", 2): clusters[last].memory.primary = name
        case ("place", 2): clusters[last].places.insert(name)
        case ("database", 2): clusters[last].databases.insert(name)
        case ("fenced", 3):
            guard let timeline = UInt32(words[2]) else { return false }
            clusters[last].memory.fence(name, on: timeline)
        case ("start", 3):
            guard let time = self.unescaped(words[2]) else { return false }
            clusters[last].starts[name] = time
        default: return false
        }
        return true
    }

    /// FNV-1a: against files that were cut off or edited by mistake, not against somebody who may write to it.
    private static func checksum(_ bytes: some Sequence<UInt8>) -> String {
        let sum = bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
        return String(sum, radix: 16)
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            if byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "%") {
                result.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                result += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
        // A word must not be empty.
        return result.isEmpty ? "%" : result
    }

    private static func unescaped(_ word: String) -> String? {
        guard word != "%" else { return "" }
        var bytes: [UInt8] = []
        var rest = Substring(word).utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(Substring(rest.prefix(2))), radix: 16) else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
