# Receives the relay's events: verifies each one, takes it once, and answers fast.
#
# Ruby 3.0 or newer; gem install sqlite3 webrick
#   BASIQ_RELAY_SIGNING_SECRET=whsec_… ruby receiver.rb

require "json"
require "openssl"
require "sqlite3"
require "webrick"

SECRET = ENV.fetch("BASIQ_RELAY_SIGNING_SECRET").delete_prefix("whsec_").unpack1("m")
PORT = Integer(ENV.fetch("PORT", "3001"))
DATABASE = ENV.fetch("DATABASE", "receiver.db")
TOLERANCE = 5 * 60 # seconds
TABLES = <<~SQL
  CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
  CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
                                   message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1);
SQL
TELL = <<~SQL
  INSERT INTO news (about, type, action, message) VALUES (?, ?, ?, ?) ON CONFLICT (about) DO UPDATE
  SET type = excluded.type, action = excluded.action, message = excluded.message, told = told + 1
SQL

# Whether the body, byte for byte as it came, was signed with our secret within the last five minutes.
def genuine?(request, body)
  id, timestamp = request["webhook-id"].to_s, request["webhook-timestamp"].to_s
  return false if id.empty? || !timestamp.match?(/\A\d+\z/) || (Time.now.to_i - timestamp.to_i).abs > TOLERANCE

  mac = OpenSSL::HMAC.digest("SHA256", SECRET, "#{id}.#{timestamp}.".b + body)
  right = "v1,#{[mac].pack("m0")}"
  # There are two signatures while the secret is being replaced.
  request["webhook-signature"].to_s.split(" ").any? { |given| OpenSSL.secure_compare(right, given) }
end

# Does the work of an event in the transaction that remembers its id: both happen, or neither does.
def take(id, event)
  SQLite3::Database.new(DATABASE) do |db|
    db.busy_timeout = 2000
    db.transaction(:immediate) do
      db.execute("INSERT INTO webhooks (id) VALUES (?) ON CONFLICT DO NOTHING", [id])
      # Other types are accepted and ignored: later versions of the relay may have some.
      next if db.changes.zero? || !event["type"].start_with?("job.", "notice.")

      about = event["jobId"] || event["context"]["userId"]
      db.execute(TELL, [about, event["type"], event["action"], event["userMessage"]])
    end
  end
end

SQLite3::Database.new(DATABASE) { |db| db.execute_batch(TABLES) }
server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: PORT, AccessLog: [])
server.mount_proc "/" do |request, response|
  body = request.body.to_s.b
  if genuine?(request, body)
    # WEBrick's texts are bytes, which SQLite would store as a BLOB.
    id = request["webhook-id"].dup.force_encoding("UTF-8")
    take(id, JSON.parse(body.force_encoding("UTF-8")))
    # Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
    response.status = 204
  else
    response.status = 401
  end
rescue SQLite3::Exception, JSON::ParserError => error
  warn "not stored: #{error.message}" # the relay tries again
  response.status = 503
end
%w[INT TERM].each { |signal| trap(signal) { server.shutdown } }
server.start
