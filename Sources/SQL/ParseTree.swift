import CPGQuery
import Glibc

/// The tree of a text as PostgreSQL's grammar sees it, in libpg_query's protobuf messages.
///
/// The messages are read by their own descriptors, by name: nodes and fields that another version of the grammar lacks
/// or adds do no harm. libpg_query keeps its state by thread; it may be used from any.
@safe struct ParseTree: ~Copyable {
    private let root: UnsafeMutablePointer<PgQuery__ParseResult>

    /// Nil if the text is no SQL that this grammar knows, or if it holds a NUL.
    ///
    /// - Parameter text: nested no deeper than `NestingDepth.limit`, or the stack of the thread may not be enough.
    init?(_ text: Span<UInt8>) {
        var terminated: [CChar] = []
        terminated.reserveCapacity(text.count + 1)
        for index in text.indices {
            guard text[index] != 0 else { return nil }
            terminated.append(CChar(bitPattern: text[index]))
        }
        terminated.append(0)
        let result = unsafe terminated.withUnsafeBufferPointer { unsafe pg_query_parse_protobuf($0.baseAddress) }
        defer { unsafe pg_query_free_protobuf_parse_result(result) }
        guard unsafe result.error == nil, let data = unsafe result.parse_tree.data else { return nil }
        let length = unsafe result.parse_tree.len
        let unpacked = unsafe data.withMemoryRebound(to: UInt8.self, capacity: length) {
            unsafe pg_query__parse_result__unpack(nil, length, $0)
        }
        guard let unpacked = unsafe unpacked else { return nil }
        unsafe self.root = unpacked
    }

    deinit {
        unsafe pg_query__parse_result__free_unpacked(self.root, nil)
    }

    /// Calls with each statement of the text; the nodes live no longer than the call.
    func map<Value>(_ body: (Node) -> Value) -> [Value] {
        let root = unsafe Node(UnsafeRawPointer(self.root))
        return root.nodes("stmts").compactMap { $0.node("stmt") }.map(body)
    }

    /// One message of the tree, as long as the tree lives.
    @safe struct Node {
        private let message: UnsafePointer<ProtobufCMessage>

        fileprivate init(_ pointer: UnsafeRawPointer) {
            unsafe self.message = pointer.assumingMemoryBound(to: ProtobufCMessage.self)
        }

        /// The type's name, such as "SelectStmt".
        var name: String { unsafe String(cString: self.message.pointee.descriptor.pointee.short_name) }

        /// A field that is a node; nil if it is not set or there is none of that name.
        func node(_ field: String) -> Node? {
            guard let field = unsafe self.field(field) else { return nil }
            return unsafe self.single(field)
        }

        /// A field that is a list of nodes.
        func nodes(_ field: String) -> [Node] {
            guard let field = unsafe self.field(field) else { return [] }
            var nodes: [Node] = []
            unsafe self.forEach(field) { nodes.append($0) }
            return nodes
        }

        /// A field that is a text; nil if it is empty, which is how an unset one looks.
        func string(_ field: String) -> String? {
            guard let field = unsafe self.field(field), unsafe field.pointee.type == PROTOBUF_C_TYPE_STRING,
                let text = unsafe self.load(field, as: UnsafePointer<CChar>?.self), unsafe text.pointee != 0
            else { return nil }
            return unsafe String(cString: text)
        }

        func bool(_ field: String) -> Bool {
            guard let field = unsafe self.field(field), unsafe field.pointee.type == PROTOBUF_C_TYPE_BOOL else {
                return false
            }
            return unsafe self.load(field, as: protobuf_c_boolean.self) != 0
        }

        func integer(_ field: String) -> Int {
            guard let field = unsafe self.field(field), unsafe field.pointee.type == PROTOBUF_C_TYPE_INT32 else {
                return 0
            }
            return Int(unsafe self.load(field, as: Int32.self))
        }

        /// The name of an enumeration's value, such as "TRANS_STMT_BEGIN".
        func enumeration(_ field: String) -> String {
            guard let field = unsafe self.field(field), unsafe field.pointee.type == PROTOBUF_C_TYPE_ENUM,
                let descriptor = unsafe field.pointee.descriptor,
                let value = unsafe protobuf_c_enum_descriptor_get_value(
                    descriptor.assumingMemoryBound(to: ProtobufCEnumDescriptor.self), self.load(field, as: CInt.self))
            else { return "" }
            return unsafe String(cString: value.pointee.name)
        }

        /// Calls with each node in each field, in the order of the fields.
        func forEachChild(_ body: (Node) -> Void) {
            let descriptor = unsafe self.message.pointee.descriptor.pointee
            for index in 0..<Int(unsafe descriptor.n_fields) {
                let field = unsafe descriptor.fields + index
                guard unsafe field.pointee.type == PROTOBUF_C_TYPE_MESSAGE else { continue }
                unsafe self.forEach(field, body)
            }
        }

        // MARK: Fields

        private func field(_ name: String) -> UnsafePointer<ProtobufCFieldDescriptor>? {
            unsafe protobuf_c_message_descriptor_get_field_by_name(self.message.pointee.descriptor, name)
        }

        private func load<Value>(_ field: UnsafePointer<ProtobufCFieldDescriptor>, as type: Value.Type) -> Value {
            unsafe UnsafeRawPointer(self.message).load(fromByteOffset: Int(field.pointee.offset), as: type)
        }

        private func forEach(_ field: UnsafePointer<ProtobufCFieldDescriptor>, _ body: (Node) -> Void) {
            guard unsafe field.pointee.label == PROTOBUF_C_LABEL_REPEATED else {
                if let node = unsafe self.single(field) { body(node) }
                return
            }
            let count = unsafe UnsafeRawPointer(self.message)
                .load(fromByteOffset: Int(field.pointee.quantifier_offset), as: Int.self)
            guard unsafe field.pointee.type == PROTOBUF_C_TYPE_MESSAGE,
                let elements = unsafe self.load(field, as: UnsafePointer<UnsafeRawPointer?>?.self)
            else { return }
            for index in 0..<count {
                if let element = unsafe elements[index], let node = unsafe Node(element).unwrapped { body(node) }
            }
        }

        private func single(_ field: UnsafePointer<ProtobufCFieldDescriptor>) -> Node? {
            guard unsafe field.pointee.type == PROTOBUF_C_TYPE_MESSAGE,
                unsafe field.pointee.label != PROTOBUF_C_LABEL_REPEATED
            else { return nil }
            // Of the fields of a `oneof`, which share their memory, one is set.
            if unsafe field.pointee.flags & PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue != 0 {
                let set = unsafe UnsafeRawPointer(self.message)
                    .load(fromByteOffset: Int(field.pointee.quantifier_offset), as: UInt32.self)
                guard unsafe set == field.pointee.id else { return nil }
            }
            return unsafe self.load(field, as: UnsafeRawPointer?.self).flatMap { unsafe Node($0).unwrapped }
        }

        /// The content of a `Node`, which is nothing but a choice among all types; any other message is itself.
        private var unwrapped: Node? {
            let descriptor = unsafe self.message.pointee.descriptor
            guard let name = unsafe descriptor?.pointee.short_name, unsafe strcmp(name, "Node") == 0 else {
                return self
            }
            guard let first = unsafe descriptor?.pointee.fields else { return nil }
            let set = unsafe UnsafeRawPointer(self.message)
                .load(fromByteOffset: Int(first.pointee.quantifier_offset), as: UInt32.self)
            guard let field = unsafe protobuf_c_message_descriptor_get_field(descriptor, set) else { return nil }
            return unsafe self.load(field, as: UnsafeRawPointer?.self).map { unsafe Node($0) }
        }
    }
}
