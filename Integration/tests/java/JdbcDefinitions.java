import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

/**
 * What a client of JDBC hears whose statements' tables and types change: first directly, then through the proxy.
 *
 * Arguments are the URL of PostgreSQL, that of the proxy, and the number of neighbours. It prints one line for each step:
 * which of the two, the change and how it was made, when the query was run, and its rows or the SQLSTATE.
 */
public final class JdbcDefinitions {
    /** A change of definitions: what there is before, the statements that change it, and a query with its parameters. */
    private record Change(String name, String before, String change, String text, Object... parameters) {}

    private static final Change[] CHANGES = {
        new Change("int to text", "CREATE TABLE d (a int, b int); INSERT INTO d VALUES (1, 2)",
            "ALTER TABLE d ALTER a TYPE text", "SELECT a, b FROM d"),
        new Change("int to real", "CREATE TABLE d (a int); INSERT INTO d VALUES (1065353216)",
            "ALTER TABLE d ALTER a TYPE real", "SELECT a FROM d"),
        new Change("int to bigint", "CREATE TABLE d (a int); INSERT INTO d VALUES (1)",
            "ALTER TABLE d ALTER a TYPE bigint", "SELECT a FROM d WHERE a = ?", 1),
        new Change("text to int", "CREATE TABLE d (a text); INSERT INTO d VALUES ('1')",
            "ALTER TABLE d ALTER a TYPE int USING a::int", "SELECT * FROM d"),
        new Change("varchar to longer", "CREATE TABLE d (a varchar(1)); INSERT INTO d VALUES ('1')",
            "ALTER TABLE d ALTER a TYPE varchar(9)", "SELECT * FROM d WHERE a = ?", "1"),
        new Change("type of what is not shown", "CREATE TABLE d (a int, b int); INSERT INTO d VALUES (1, 2)",
            "ALTER TABLE d ALTER b TYPE real", "SELECT a FROM d"),
        new Change("type that is compared", "CREATE TABLE d (a int, b int); INSERT INTO d VALUES (1, 2)",
            "ALTER TABLE d ALTER b TYPE bigint", "SELECT a FROM d WHERE b = ?", 2),
        new Change("another column", "CREATE TABLE d (a int); INSERT INTO d VALUES (1)",
            "ALTER TABLE d ADD b text DEFAULT 'new'", "SELECT * FROM d"),
        new Change("another column, not asked for", "CREATE TABLE d (a int); INSERT INTO d VALUES (1)",
            "ALTER TABLE d ADD b text DEFAULT 'new'", "SELECT a FROM d WHERE a > ?", 0),
        new Change("a column less", "CREATE TABLE d (a int, b int); INSERT INTO d VALUES (1, 2)",
            "ALTER TABLE d DROP b", "SELECT * FROM d"),
        new Change("a column less that is asked for", "CREATE TABLE d (a int, b int); INSERT INTO d VALUES (1, 2)",
            "ALTER TABLE d DROP b", "SELECT a, b FROM d"),
        new Change("a column instead", "CREATE TABLE d (a int, b int); INSERT INTO d VALUES (1, 2)",
            "ALTER TABLE d DROP b; ALTER TABLE d ADD b text DEFAULT 'b'", "SELECT a, b FROM d"),
        new Change("another table", "CREATE TABLE d (a int, b text); INSERT INTO d VALUES (1, 'x')",
            "DROP TABLE d; CREATE TABLE d (a text, b real); INSERT INTO d VALUES ('y', 2.5)", "SELECT a, b FROM d"),
        new Change("another table of the same types", "CREATE TABLE d (a int); INSERT INTO d VALUES (1)",
            "DROP TABLE d; CREATE TABLE d (a int); INSERT INTO d VALUES (2)", "SELECT a FROM d"),
        new Change("no table", "CREATE TABLE d (a int); INSERT INTO d VALUES (1)", "DROP TABLE d", "SELECT a FROM d"),
        new Change("another enum", "CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE d (v e); INSERT INTO d VALUES ('b')",
            "DROP TABLE d; DROP TYPE e; CREATE TYPE e AS ENUM ('c', 'b'); CREATE TABLE d (v e); INSERT INTO d VALUES ('b')",
            "SELECT v FROM d WHERE v = 'b'"),
        new Change("another enum as a parameter", "CREATE TYPE e AS ENUM ('a', 'b')",
            "DROP TYPE e; CREATE TYPE e AS ENUM ('b')", "SELECT ?::e", "b"),
        new Change("an enum without the label", "CREATE TYPE e AS ENUM ('a', 'b')",
            "DROP TYPE e; CREATE TYPE e AS ENUM ('c')", "SELECT ?::text::e::text", "b"),
        new Change("an enum with another label", "CREATE TYPE e AS ENUM ('a'); CREATE TABLE d (v e); INSERT INTO d VALUES ('a')",
            "ALTER TYPE e RENAME VALUE 'a' TO 'z'; ALTER TYPE e ADD VALUE 'y'", "SELECT v, 'y'::text FROM d"),
        new Change("a domain instead of an enum", "CREATE TYPE e AS ENUM ('a')", "DROP TYPE e; CREATE DOMAIN e AS text",
            "SELECT 'a'::e"),
        new Change("another composite type", "CREATE TYPE e AS (x int)", "ALTER TYPE e ADD ATTRIBUTE y text",
            "SELECT NULL::e, 1"),
        new Change("a view with one more column", "CREATE VIEW w AS SELECT 1 AS a",
            "CREATE OR REPLACE VIEW w AS SELECT 1 AS a, 'x'::text AS b", "SELECT * FROM w"),
        new Change("a view of other values", "CREATE VIEW w AS SELECT 1 AS a", "CREATE OR REPLACE VIEW w AS SELECT 2 AS a",
            "SELECT a FROM w WHERE a > ?", 0),
        new Change("another view", "CREATE VIEW w AS SELECT 1 AS a", "DROP VIEW w; CREATE VIEW w AS SELECT 1.5::real AS a",
            "SELECT a FROM w"),
        new Change("a view's table", "CREATE TABLE d (a int); INSERT INTO d VALUES (1); CREATE VIEW w AS SELECT * FROM d",
            "DROP VIEW w; ALTER TABLE d ALTER a TYPE real; CREATE VIEW w AS SELECT * FROM d", "SELECT * FROM w"),
        new Change("what an INSERT returns", "CREATE TABLE d (a int)", "ALTER TABLE d ALTER a TYPE real",
            "INSERT INTO d VALUES (?) RETURNING a", 1),
        new Change("what an INSERT returns more", "CREATE TABLE d (a int)", "ALTER TABLE d ADD b int DEFAULT 2",
            "INSERT INTO d VALUES (?) RETURNING *", 1),
    };

    /** Who changes it, and how. */
    private enum Way { ANOTHER, ANOTHER_IN_A_TRANSACTION, ITSELF }

    private static volatile Change neighboursChange;

    private static String rows(PreparedStatement statement, Change change) throws SQLException {
        for (int index = 0; index < change.parameters.length; index++) {
            statement.setObject(index + 1, change.parameters[index]);
        }
        try (ResultSet rows = statement.executeQuery()) {
            ResultSetMetaData columns = rows.getMetaData();
            StringBuilder shown = new StringBuilder();
            while (rows.next()) {
                for (int column = 1; column <= columns.getColumnCount(); column++) {
                    shown.append(column == 1 ? "(" : ", ").append(columns.getColumnName(column)).append(' ')
                        .append(columns.getColumnTypeName(column)).append(' ').append(rows.getObject(column));
                }
                shown.append(")");
            }
            return shown.toString();
        }
    }

    private static String attempt(PreparedStatement statement, Change change) {
        try {
            return rows(statement, change);
        } catch (SQLException error) {
            return error.getSQLState();
        } catch (RuntimeException error) {
            // What the driver makes of values that are not of the types that it was told.
            return error.toString();
        }
    }

    private static void run(Connection connection, String statements, boolean together) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            connection.setAutoCommit(!together);
            for (String each : statements.split("; ")) {
                statement.execute(each);
            }
            if (together) {
                connection.commit();
                connection.setAutoCommit(true);
            }
        }
    }

    /** Neighbours run the same text, prepared at once or after five times, over and over, each time on a new connection. */
    private static Thread neighbour(String url, int number) {
        Thread thread = new Thread(() -> {
            String mine = url + "&prepareThreshold=" + (number % 2 == 0 ? "1" : "5");
            while (true) {
                try (Connection connection = DriverManager.getConnection(mine)) {
                    connection.setAutoCommit(number % 3 != 2);
                    for (int round = 0; round < 8; round++) {
                        Change change = neighboursChange;
                        try (PreparedStatement statement = connection.prepareStatement(change.text)) {
                            if (change.text.startsWith("SELECT")) {
                                attempt(statement, change);
                            }
                        }
                        if (!connection.getAutoCommit()) {
                            connection.rollback();
                        }
                    }
                } catch (SQLException error) {
                    // Neighbours may hear whatever the change brings.
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    /** Lets so many others begin transactions: what they hold is the server connections that were used last. */
    private static void hold(List<Connection> others, int count) throws SQLException {
        for (Connection other : others.subList(0, count)) {
            try (Statement statement = other.createStatement()) {
                statement.execute("SELECT 1");
            }
        }
    }

    private static void release(List<Connection> others) throws SQLException {
        for (Connection other : others) {
            other.commit();
        }
    }

    /** One change by one way; `together` the client then runs its statement twice in one transaction. */
    private static void work(String label, String url, List<Connection> holders, Change change, Way way, boolean together)
            throws SQLException {
        List<String> heard = new ArrayList<>();
        try (Connection client = DriverManager.getConnection(url); Connection other = DriverManager.getConnection(url)) {
            run(other, "DROP VIEW IF EXISTS w; DROP TABLE IF EXISTS d; DROP TYPE IF EXISTS e CASCADE", false);
            run(other, change.before, true);
            neighboursChange = change;
            try (PreparedStatement old = client.prepareStatement(change.text)) {
                for (int time = 0; time < 6; time++) {
                    heard.add("before\t" + attempt(old, change));
                }
                run(way == Way.ITSELF ? client : other, change.change, way == Way.ANOTHER_IN_A_TRANSACTION);
                if (together) {
                    hold(holders, 1);
                    client.setAutoCommit(false);
                    for (int time = 0; time < 2; time++) {
                        heard.add("after\t" + attempt(old, change));
                    }
                    try {
                        client.commit();
                        heard.add("after\tcommitted");
                    } catch (SQLException error) {
                        heard.add("after\t" + error.getSQLState());
                        client.rollback();
                    }
                    client.setAutoCommit(true);
                    release(holders);
                }
                for (int count : new int[] {1, 0, 2}) {
                    hold(holders, count);
                    heard.add("after\t" + attempt(old, change));
                    release(holders);
                }
                try (PreparedStatement again = client.prepareStatement(change.text)) {
                    for (int time = 0; time < 2; time++) {
                        heard.add("prepared again\t" + attempt(again, change));
                    }
                }
            }
            try (Connection newcomer = DriverManager.getConnection(url);
                    PreparedStatement statement = newcomer.prepareStatement(change.text)) {
                for (int time = 0; time < 6; time++) {
                    heard.add("a newcomer\t" + attempt(statement, change));
                }
            }
        }
        for (String each : heard) {
            System.out.println(label + "\t" + change.name + (together ? ", a transaction, " : ", ") + way + "\t" + each);
        }
    }

    public static void main(String[] arguments) throws Exception {
        int count = Integer.parseInt(arguments[2]);
        List<Thread> neighbours = new ArrayList<>();
        for (int target = 0; target < 2; target++) {
            String label = target == 0 ? "direct" : "proxied";
            String url = arguments[target];
            List<Connection> holders = new ArrayList<>();
            for (int number = 0; number < 2; number++) {
                Connection holder = DriverManager.getConnection(url);
                holder.setAutoCommit(false);
                holders.add(holder);
            }
            for (Change change : CHANGES) {
                neighboursChange = change;
                while (target == 1 && neighbours.size() < count) {
                    neighbours.add(neighbour(url, neighbours.size()));
                }
                for (Way way : Way.values()) {
                    work(label, url, holders, change, way, false);
                }
                work(label, url, holders, change, Way.ANOTHER, true);
            }
        }
    }
}
