// Receives the relay's events: verifies each one, takes it once, and answers fast.
//
// Node 22.13 or newer, nothing to install:
//   BASIQ_RELAY_SIGNING_SECRET=whsec_… node receiver.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";

const { BASIQ_RELAY_SIGNING_SECRET, PORT = "3001", DATABASE = "receiver.db" } = process.env;
const SECRET = Buffer.from(BASIQ_RELAY_SIGNING_SECRET.replace(/^whsec_/, ""), "base64");
const TOLERANCE = 5 * 60; // seconds
const LARGEST_BODY = 1024 * 1024;

const db = new DatabaseSync(DATABASE);
db.exec(`
  PRAGMA busy_timeout = 2000;
  CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
  CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
                                   message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1);
`);
const remember = db.prepare("INSERT INTO webhooks (id) VALUES (?) ON CONFLICT DO NOTHING");
const tell = db.prepare(`INSERT INTO news (about, type, action, message) VALUES (?, ?, ?, ?)
  ON CONFLICT (about) DO UPDATE SET type = excluded.type, action = excluded.action,
  message = excluded.message, told = told + 1`);

/** Whether the body, byte for byte as it came, was signed with our secret within the last five minutes. */
function isGenuine(headers, body) {
  const { "webhook-id": id = "", "webhook-timestamp": timestamp = "", "webhook-signature": given = "" } = headers;
  const age = Math.abs(Date.now() / 1000 - Number(timestamp));
  if (!id || !/^\d+$/.test(timestamp) || age > TOLERANCE) return false;
  const mac = createHmac("sha256", SECRET).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const right = Buffer.from(`v1,${mac}`);
  // There are two signatures while the secret is being replaced.
  const signatures = given.split(" ").map((text) => Buffer.from(text));
  return signatures.some((one) => one.length === right.length && timingSafeEqual(one, right));
}

/** Does the work of an event in the transaction that remembers its id: both happen, or neither does. */
function take(id, event) {
  db.exec("BEGIN IMMEDIATE");
  try {
    // Other types are accepted and ignored: later versions of the relay may have some.
    if (remember.run(id).changes === 1 && /^(job|notice)\./.test(event.type)) {
      tell.run(event.jobId ?? event.context.userId, event.type, event.action, event.userMessage);
    }
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
}

const server = createServer(async (request, response) => {
  try {
    const chunks = [];
    let size = 0;
    for await (const chunk of request) if ((size += chunk.length) <= LARGEST_BODY) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (!isGenuine(request.headers, body)) return response.writeHead(401).end();
    take(request.headers["webhook-id"], JSON.parse(body));
    // Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
    response.writeHead(204).end();
  } catch (error) {
    console.error("not stored:", error); // the relay tries again
    response.writeHead(503).end();
  }
});
server.listen(Number(PORT), "127.0.0.1");
