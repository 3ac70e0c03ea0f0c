import SQL
import Testing

@Suite struct ClassifierTests {
    @Test func tooLong() {
        var classifier = Classifier(catalogue: Catalogue(), textLimit: 8)
        let text: [UInt8] = Array("SELECT 123456789".utf8)
        #expect(classifier.classify(text.span, standardConformingStrings: true).statementClass.kind == .write)
    }
}
