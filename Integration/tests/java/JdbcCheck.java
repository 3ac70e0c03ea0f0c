import java.io.StringReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;

/** Work of several threads through the proxy: arguments are a JDBC URL, the number of threads and of rounds. */
public final class JdbcCheck {
    private static void require(boolean condition, String what) {
        if (!condition) {
            throw new IllegalStateException(what);
        }
    }

    private static void round(Connection connection, int worker, int round) throws SQLException {
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc VALUES (?, ?, ?)")) {
            for (int row = 0; row < 5; row++) {
                insert.setInt(1, worker);
                insert.setInt(2, round * 5 + row);
                insert.setString(3, "text " + row + " 'quoted' \u2603");
                insert.addBatch();
            }
            require(insert.executeBatch().length == 5, "batch");
        }
        try (PreparedStatement count = connection.prepareStatement("SELECT count(*) FROM jdbc WHERE worker = ?")) {
            count.setInt(1, worker);
            ResultSet rows = count.executeQuery();
            require(rows.next() && rows.getLong(1) == (round + 1) * 5L, "count of worker " + worker);
        }
    }

    private static void work(String url, int worker, int rounds) throws Exception {
        try (Connection connection = DriverManager.getConnection(url)) {
            for (int round = 0; round < rounds; round++) {
                connection.setAutoCommit(round % 2 == 0);
                round(connection, worker, round);
                if (!connection.getAutoCommit()) {
                    connection.commit();
                }
            }
            // A result set read by a cursor: portals with a row limit.
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(100);
                ResultSet rows = statement.executeQuery("SELECT generate_series(1, 1050)");
                int seen = 0;
                while (rows.next()) {
                    seen++;
                }
                require(seen == 1050, "cursor");
            }
            connection.rollback();
            // An error, and the connection goes on.
            connection.setAutoCommit(true);
            try (PreparedStatement bad = connection.prepareStatement("SELECT 1 / ?")) {
                bad.setInt(1, 0);
                bad.executeQuery();
                require(false, "no error");
            } catch (SQLException error) {
                require("22012".equals(error.getSQLState()), "SQLSTATE " + error.getSQLState());
            }
            long copied = connection.unwrap(PGConnection.class).getCopyAPI()
                .copyIn("COPY jdbc FROM STDIN", new StringReader((worker + 1000) + "\t1\tcopied\n"));
            require(copied == 1, "copy");
            require(connection.isValid(5), "isValid");
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        int threads = Integer.parseInt(arguments[1]);
        int rounds = Integer.parseInt(arguments[2]);
        try (Connection connection = DriverManager.getConnection(url); Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc");
            statement.execute("CREATE TABLE jdbc (worker int, n int, t text)");
        }
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        List<Future<Void>> results = new ArrayList<>();
        for (int index = 0; index < threads; index++) {
            int worker = index;
            Callable<Void> task = () -> {
                work(url, worker, rounds);
                return null;
            };
            results.add(pool.submit(task));
        }
        for (Future<Void> result : results) {
            result.get(60, TimeUnit.SECONDS);
        }
        pool.shutdown();
        System.out.println("all well");
    }
}
