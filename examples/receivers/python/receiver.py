"""Receives the relay's events: verifies each one, takes it once, and answers fast.

Python 3.9 or newer, nothing to install:
    BASIQ_RELAY_SIGNING_SECRET=whsec_… python3 receiver.py
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(os.environ["BASIQ_RELAY_SIGNING_SECRET"].removeprefix("whsec_"))
PORT = int(os.environ.get("PORT", "3001"))
DATABASE = os.environ.get("DATABASE", "receiver.db")
TOLERANCE = 5 * 60  # seconds
LARGEST_BODY = 1024 * 1024
TABLES = """
CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS news (about TEXT NOT NULL PRIMARY KEY, type TEXT NOT NULL, action TEXT NOT NULL,
                                 message TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 1);
"""


def is_genuine(headers, body):
    """Whether the body, byte for byte as it came, was signed with our secret within the last five minutes."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not webhook_id or not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    mac = hmac.new(SECRET, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    right = b"v1," + base64.b64encode(mac)
    # There are two signatures while the secret is being replaced.
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(right, signature) for signature in given)


def take(webhook_id, event):
    """Does the work of an event in the transaction that remembers its id: both happen, or neither does."""
    with closing(sqlite3.connect(DATABASE, timeout=2, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        remembered = db.execute("INSERT INTO webhooks (id) VALUES (?) ON CONFLICT DO NOTHING", (webhook_id,))
        # Other types are accepted and ignored: later versions of the relay may have some.
        if remembered.rowcount == 1 and event["type"].startswith(("job.", "notice.")):
            about = event["jobId"] or event["context"]["userId"]
            db.execute(
                "INSERT INTO news (about, type, action, message) VALUES (?, ?, ?, ?) ON CONFLICT (about) DO UPDATE "
                "SET type = excluded.type, action = excluded.action, message = excluded.message, told = told + 1",
                (about, event["type"], event["action"], event["userMessage"]),
            )
        db.execute("COMMIT")


class Hooks(BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(min(length, LARGEST_BODY))
        if not is_genuine(self.headers, body):
            return self.answer(401)
        try:
            take(self.headers["webhook-id"], json.loads(body))
        except sqlite3.Error as error:  # the relay tries again
            self.log_error("not stored: %s", error)
            return self.answer(503)
        # Answer now. What takes time, such as a call to Basiq, is done by a worker that reads `news`.
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


with closing(sqlite3.connect(DATABASE)) as tables:
    tables.executescript(TABLES)
ThreadingHTTPServer(("127.0.0.1", PORT), Hooks).serve_forever()
