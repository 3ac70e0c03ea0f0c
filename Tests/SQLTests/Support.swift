import SQL

/// Calls for texts; spans of temporary arrays cannot stand in an expression.
struct Subject: ~Copyable {
    var classifier: Classifier

    init(_ catalogue: Catalogue = Catalogue(), textLimit: Int = 64 << 10, shapeLimit: Int = 10_000) {
        self.classifier = Classifier(catalogue: catalogue, textLimit: textLimit, shapeLimit: shapeLimit)
    }

    mutating func callAsFunction(_ text: String, standardConformingStrings: Bool = true) -> Classifier.Result {
        self(Array(text.utf8), standardConformingStrings: standardConformingStrings)
    }

    mutating func callAsFunction(_ bytes: [UInt8], standardConformingStrings: Bool = true) -> Classifier.Result {
        self.classifier.classify(bytes.span, standardConformingStrings: standardConformingStrings)
    }
}
