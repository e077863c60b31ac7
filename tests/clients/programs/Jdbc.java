import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

/** What applications do with JDBC, printed, so that two runs can be compared. Arguments: URL; user and password in the environment. */
public class Jdbc {
    public static void main(String[] arguments) throws Exception {
        Properties words = new Properties();
        words.setProperty("user", System.getenv("JDBC_USER"));
        words.setProperty("password", System.getenv("JDBC_PASSWORD"));
        words.setProperty("currentSchema", "public");
        words.setProperty("ApplicationName", "jdbc test");
        try (Connection connection = DriverManager.getConnection(arguments[0], words)) {
            if (arguments.length > 2) {
                heard(connection, arguments[1], arguments[2]);
            } else if (arguments.length > 1) {
                masked(connection, arguments[1]);
            } else {
                everything(connection);
            }
        }
    }

    static void heard(Connection connection, String channel, String said) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("LISTEN " + channel);
            statement.execute("NOTIFY " + channel + ", '" + said + "'");
        }
        for (PGNotification told : connection.unwrap(PGConnection.class).getNotifications(20000)) {
            System.out.println(told.getName() + ": " + told.getParameter());
        }
    }

    static void masked(Connection connection, String query) throws SQLException {
        try (PreparedStatement prepared = connection.prepareStatement(query)) {
            for (int n = 1; n <= 12; n++) {  // from the fifth on a server-side statement, then binary results
                prepared.setInt(1, n);
                print("row", prepared.executeQuery());
            }
        }
    }

    static void everything(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_things");
            statement.execute("CREATE TABLE jdbc_things (id serial PRIMARY KEY, label text UNIQUE, amount numeric(10,2), "
                + "taken timestamptz, tags text[], big bigint, data bytea) "
                + "WITH (autovacuum_enabled = off)");  // index metadata tells what it counted, and when is chance
            print("two results", statement.executeQuery("SELECT 1 AS one"));
            statement.execute("SELECT 1 AS a; SELECT 2 AS b");
            print("first", statement.getResultSet());
            System.out.println("more " + statement.getMoreResults());
            print("second", statement.getResultSet());
        }
        batch(connection);
        repeated(connection);
        cursor(connection);
        errors(connection);
        metadata(connection);
        copy(connection);
        timeout(connection);
        try (Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE jdbc_things");
        }
    }

    static void batch(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        String insert = "INSERT INTO jdbc_things (label, amount, taken, tags, big, data) VALUES (?, ?, ?::timestamptz, ?, ?, ?)";
        try (PreparedStatement prepared = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            for (int n = 0; n < 300; n++) {
                prepared.setString(1, "thing " + n);
                prepared.setBigDecimal(2, new java.math.BigDecimal(n + ".25"));
                prepared.setString(3, "2024-02-29 12:00:00+00");
                prepared.setArray(4, connection.createArrayOf("text", new String[] {"a", "b" + n}));
                prepared.setLong(5, 1L << 40 | n);
                prepared.setBytes(6, new byte[] {0, 1, (byte) n});
                prepared.addBatch();
            }
            int done = 0;
            for (int count : prepared.executeBatch()) {
                done += count;
            }
            System.out.println("batch " + done);
            ResultSet keys = prepared.getGeneratedKeys();
            keys.next();
            System.out.println("first key " + keys.getLong(1));
        }
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void repeated(Connection connection) throws SQLException {
        try (PreparedStatement prepared = connection.prepareStatement("SELECT * FROM jdbc_things WHERE id = ?")) {
            for (int n = 1; n <= 10; n++) {
                prepared.setInt(1, n);
                print("repeated", prepared.executeQuery());
            }
        }
    }

    static void cursor(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(37);  // Execute with a row limit, PortalSuspended, again
            ResultSet rows = statement.executeQuery("SELECT id FROM jdbc_things ORDER BY id");
            long sum = 0;
            while (rows.next()) {
                sum += rows.getLong(1);
            }
            System.out.println("cursor " + sum);
        }
        Savepoint savepoint = connection.setSavepoint("here");
        try (Statement statement = connection.createStatement()) {
            System.out.println("deleted " + statement.executeUpdate("DELETE FROM jdbc_things WHERE id > 100"));
        }
        connection.rollback(savepoint);
        connection.commit();
        connection.setAutoCommit(true);
    }

    static void errors(Connection connection) throws SQLException {
        for (String wrong : new String[] {
            "SELECT 1/0", "SELEC 1", "SELECT nothing FROM jdbc_things", "INSERT INTO jdbc_things (label) VALUES ('thing 1')"}) {
            try (Statement statement = connection.createStatement()) {
                statement.execute(wrong);
            } catch (SQLException error) {
                System.out.println(error.getSQLState() + " " + error.getMessage());
            }
        }
    }

    static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData metadata = connection.getMetaData();
        print("columns", metadata.getColumns(null, "public", "jdbc_things", null));
        print("keys", metadata.getPrimaryKeys(null, "public", "jdbc_things"));
        print("indexes", metadata.getIndexInfo(null, "public", "jdbc_things", true, false));
        print("types", metadata.getTypeInfo());
        System.out.println("isolation " + connection.getTransactionIsolation() + " schema " + connection.getSchema());
    }

    static void copy(Connection connection) throws Exception {
        CopyManager copier = connection.unwrap(PGConnection.class).getCopyAPI();
        System.out.println("copied in " + copier.copyIn("COPY jdbc_things (label) FROM STDIN", new StringReader("x\ny\n")));
        StringWriter out = new StringWriter();
        copier.copyOut("COPY (SELECT label FROM jdbc_things WHERE id > 299 ORDER BY label) TO STDOUT CSV HEADER", out);
        System.out.println("copied out " + out);
        try {
            copier.copyIn("COPY jdbc_things (big) FROM STDIN", new StringReader("not a number\n"));
        } catch (SQLException error) {
            System.out.println(error.getSQLState() + " " + error.getMessage());
        }
    }

    static void timeout(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            statement.execute("SELECT pg_sleep(20)");
        } catch (SQLException error) {
            System.out.println(error.getSQLState());
        }
        try (Statement statement = connection.createStatement()) {
            print("after the timeout", statement.executeQuery("SELECT 'still here' AS words"));
        }
    }

    static void print(String title, ResultSet rows) throws SQLException {
        ResultSetMetaData metadata = rows.getMetaData();
        while (rows.next()) {
            StringBuilder line = new StringBuilder(title);
            for (int column = 1; column <= metadata.getColumnCount(); column++) {
                boolean bytes = metadata.getColumnTypeName(column).equals("bytea");
                String value = bytes ? Arrays.toString(rows.getBytes(column)) : rows.getString(column);
                line.append('|').append(metadata.getColumnName(column)).append('=').append(value);
            }
            System.out.println(line);
        }
        rows.close();
    }
}
