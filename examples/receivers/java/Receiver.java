// Receives the relay's events: verifies each one, takes it once, and answers fast.
//
// Java 17 or newer, with the jars of gson and sqlite-jdbc:
//   BASIQ_RELAY_SIGNING_SECRET=whsec_… java -cp gson.jar:sqlite-jdbc.jar Receiver.java

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Instant;
import java.util.Base64;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Receiver {
    static final long TOLERANCE = 5 * 60; // seconds
    static final int LARGEST_BODY = 1024 * 1024;
    static final String REMEMBER = "INSERT INTO webhooks (id) VALUES (?) ON CONFLICT DO NOTHING";
    static final String TELL = "INSERT INTO news (about, type, action, message) VALUES (?, ?, ?, ?) "
        + "ON CONFLICT (about) DO UPDATE SET type = excluded.type, action = excluded.action, "
        + "message = excluded.message, told = told + 1";

    static byte[] secret;
    static String database;

    public static void main(String[] arguments) throws Exception {
        secret = Base64.getDecoder().decode(System.getenv("BASIQ_RELAY_SIGNING_SECRET").replaceFirst("^whsec_", ""));
        database = "jdbc:sqlite:" + System.getenv().getOrDefault("DATABASE", "receiver.db");
        try (Connection db = DriverManager.getConnection(database); var statement = db.createStatement()) {
            statement.execute("CREATE TABLE IF NOT EXISTS webhooks "
                + "(id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)");
            statement.execute("CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, "
                + "action TEXT NOT NULL, message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1)");
        }
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "3001"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", Receiver::receive);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }

    static void receive(HttpExchange exchange) throws IOException {
        int status;
        try {
            byte[] body = exchange.getRequestBody().readNBytes(LARGEST_BODY);
            if (isGenuine(exchange.getRequestHeaders(), body)) {
                String id = exchange.getRequestHeaders().getFirst("webhook-id");
                take(id, JsonParser.parseString(new String(body, StandardCharsets.UTF_8)).getAsJsonObject());
                // Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
                status = 204;
            } else {
                status = 401;
            }
        } catch (Exception error) {
            System.err.println("not stored: " + error); // the relay tries again
            status = 503;
        }
        exchange.sendResponseHeaders(status, -1);
        exchange.close();
    }

    /** Whether the body, byte for byte as it came, was signed with our secret within the last five minutes. */
    static boolean isGenuine(Headers headers, byte[] body) throws GeneralSecurityException, IOException {
        String id = headers.getFirst("webhook-id");
        String timestamp = headers.getFirst("webhook-timestamp");
        String given = headers.getFirst("webhook-signature");
        if (id == null || id.isEmpty() || timestamp == null || given == null || !timestamp.matches("\\d{1,12}")) {
            return false;
        }
        if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE) {
            return false;
        }
        var signed = new ByteArrayOutputStream();
        signed.write((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        signed.write(body);
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(secret, "HmacSHA256"));
        byte[] right = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(signed.toByteArray()))).getBytes();
        // There are two signatures while the secret is being replaced.
        for (String signature : given.split(" ")) {
            if (MessageDigest.isEqual(right, signature.getBytes())) {
                return true;
            }
        }
        return false;
    }

    /** Does the work of an event in the transaction that remembers its id: both happen, or neither does. */
    static void take(String id, JsonObject event) throws SQLException {
        try (Connection db = DriverManager.getConnection(database)) {
            db.setAutoCommit(false); // what is not committed is undone when the connection closes
            try (var remember = db.prepareStatement(REMEMBER); var tell = db.prepareStatement(TELL)) {
                remember.setString(1, id);
                String type = event.get("type").getAsString();
                // Other types are accepted and ignored: later versions of the relay may have some.
                if (remember.executeUpdate() == 1 && type.matches("(job|notice)\\..*")) {
                    JsonElement job = event.get("jobId");
                    JsonElement about = job.isJsonNull() ? event.getAsJsonObject("context").get("userId") : job;
                    tell.setString(1, about.getAsString());
                    tell.setString(2, type);
                    tell.setString(3, event.get("action").getAsString());
                    tell.setString(4, event.get("userMessage").getAsString());
                    tell.executeUpdate();
                }
            }
            db.commit();
        }
    }
}
