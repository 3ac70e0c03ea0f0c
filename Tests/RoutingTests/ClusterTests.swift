import Routing
import Testing

@Suite struct ClusterTests {
    @Test func nobodyIsPrimaryAtFirst() {
        let cluster = Cluster(samples: SampleNumbers())
        cluster.setNodes([Node(host: "pg1", port: 5432, address: nil)])
        #expect(cluster.primary == nil)
    }
}
