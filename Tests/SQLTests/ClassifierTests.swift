import SQL
import Testing

@Suite struct ClassifierTests {
    @Test func tooLong() {
        var classifier = Classifier(catalogue: Catalogue(), textLimit: 8)
        let text: [UInt8] = Array("SELECT 123456789".utf8)
        #expect(classifier.classify(text.span, standardConformingStrings: true).statementClass.kind == .write)
    }
    @Test func quick() {
        var classifier = Classifier(catalogue: Catalogue())
        for s in [
            "SELECT 1", "select * from t where a in (1,2,3)", "begin read only", "insert into t values(1)",
            "select nextval('x')", "/* martlet: route=primary */ select now()",
            "set transaction isolation level serializable, read write", "select f()",
            "with x as (delete from t returning *) select * from x", "explain (analyze off) update t set a=1",
            "explain analyze select pg_notify('a','b')", "copy (select 1) to stdout", "selec", "select 1 for update",
            "select date(now()), 'x'::text", "create unlogged table x()", "select pg_catalog.set_config('a','b',true)",
            "select extract(year from now())", "commit and chain; select 1", "declare c cursor for select 1",
            "fetch 1 from c", "alter table x rename to y", "select * from pg_locks",
            "with pg_locks as (select * from pg_locks) select * from pg_locks",
        ] {
            let text = Array(s.utf8)
            let r = classifier.classify(text.span, standardConformingStrings: true)
            print(
                s, "|", r.statementClass.kind, r.statementClass.reason, r.statementClass.transaction as Any,
                r.statementClass.bindsTransaction, r.statementClass.changesCatalogue, r.override as Any)
        }
    }
}
