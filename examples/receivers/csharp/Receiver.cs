// Receives the relay's events: verifies each one, takes it once, and answers fast.
//
// .NET 8 or newer, in this folder:
//   BASIQ_RELAY_SIGNING_SECRET=whsec_… dotnet run

using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Microsoft.Data.Sqlite;

const long Tolerance = 5 * 60; // seconds
const int LargestBody = 1024 * 1024;
const string Tables = """
    CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
                                     message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1);
    """;
const string Tell = """
    INSERT INTO news (about, type, action, message) VALUES ($about, $type, $action, $message)
    ON CONFLICT (about) DO UPDATE SET type = excluded.type, action = excluded.action,
    message = excluded.message, told = told + 1
    """;

string Setting(string name, string? otherwise = null) =>
    Environment.GetEnvironmentVariable(name) ?? otherwise ?? throw new InvalidOperationException($"{name} is not set");

var signingSecret = Setting("BASIQ_RELAY_SIGNING_SECRET");
var secret = Convert.FromBase64String(signingSecret.StartsWith("whsec_") ? signingSecret[6..] : signingSecret);
var database = $"Data Source={Setting("DATABASE", "receiver.db")};Default Timeout=2";

// Whether the body, byte for byte as it came, was signed with our secret within the last five minutes.
bool IsGenuine(IHeaderDictionary headers, byte[] body)
{
    string id = headers["webhook-id"].ToString(), timestamp = headers["webhook-timestamp"].ToString();
    if (id == "" || !long.TryParse(timestamp, out var seconds)
        || Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - seconds) > Tolerance) return false;
    byte[] signed = [.. Encoding.UTF8.GetBytes($"{id}.{timestamp}."), .. body];
    var right = Encoding.ASCII.GetBytes("v1," + Convert.ToBase64String(HMACSHA256.HashData(secret, signed)));
    // There are two signatures while the secret is being replaced.
    var given = headers["webhook-signature"].ToString().Split(' ');
    return given.Any(one => CryptographicOperations.FixedTimeEquals(right, Encoding.UTF8.GetBytes(one)));
}

// Does the work of an event in the transaction that remembers its id: both happen, or neither does.
void Take(string id, JsonElement news)
{
    using var connection = new SqliteConnection(database);
    connection.Open();
    using var transaction = connection.BeginTransaction(); // what is not committed is undone
    int Execute(string sql, params (string Name, string? Value)[] values)
    {
        using var command = connection.CreateCommand();
        (command.CommandText, command.Transaction) = (sql, transaction);
        foreach (var (name, value) in values) command.Parameters.AddWithValue(name, (object?)value ?? DBNull.Value);
        return command.ExecuteNonQuery();
    }
    string? Text(string name) => news.GetProperty(name).GetString();
    var isNew = Execute("INSERT INTO webhooks (id) VALUES ($id) ON CONFLICT DO NOTHING", ("$id", id)) == 1;
    // Other types are accepted and ignored: later versions of the relay may have some.
    if (isNew && (Text("type")!.StartsWith("job.") || Text("type")!.StartsWith("notice.")))
    {
        var about = Text("jobId") ?? news.GetProperty("context").GetProperty("userId").GetString();
        Execute(Tell, ("$about", about), ("$type", Text("type")), ("$action", Text("action")),
            ("$message", Text("userMessage")));
    }
    transaction.Commit();
}

using (var connection = new SqliteConnection(database))
{
    connection.Open();
    using var tables = connection.CreateCommand();
    tables.CommandText = Tables;
    tables.ExecuteNonQuery();
}
var builder = WebApplication.CreateBuilder(args);
builder.WebHost.ConfigureKestrel(server => server.Limits.MaxRequestBodySize = LargestBody);
var app = builder.Build();
app.MapPost("/{**path}", async (HttpRequest request) =>
{
    using var buffer = new MemoryStream();
    await request.Body.CopyToAsync(buffer);
    if (!IsGenuine(request.Headers, buffer.ToArray())) return Results.Unauthorized();
    try
    {
        using var news = JsonDocument.Parse(buffer.ToArray());
        Take(request.Headers["webhook-id"].ToString(), news.RootElement);
    }
    catch (Exception error) when (error is SqliteException or JsonException)
    {
        app.Logger.LogError(error, "not stored"); // the relay tries again
        return Results.StatusCode(503);
    }
    // Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
    return Results.NoContent();
});
app.Run($"http://127.0.0.1:{Setting("PORT", "3001")}");
