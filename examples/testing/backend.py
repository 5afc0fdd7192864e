"""A small backend that connects banks: what docs/TESTING.md tests. Python 3.9 or newer, nothing to install."""

import base64
import hashlib
import hmac
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = {"content-type": "application/json"}


def call(url, headers, body):
    """Raises OSError when Basiq or the relay does not do what it is asked."""
    request = urllib.request.Request(url, body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=5) as answer:
        text = answer.read()
    return json.loads(text) if text else {}


def is_signed(secret, headers, body):
    """Whether a body was signed with that secret within the last five minutes."""
    webhook_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    right = b"v1," + base64.b64encode(mac)
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(right, one) for one in given)


class Backend:
    """`settings` are the variables that `with-relay` sets."""

    def __init__(self, settings, port):
        self.basiq, self.relay = settings["BASIQ_URL"], settings["BASIQ_RELAY_URL"]
        self.secret, self.port = settings["BASIQ_RELAY_SIGNING_SECRET"], port
        self.as_client = {"authorization": f"Bearer {settings['BASIQ_RELAY_KEY']}", **JSON}
        self.banks = {}  # by job: what a real backend has in a table
        self.seen = set()  # ids of webhooks; see examples/receivers for a table of them
        self.lock = threading.Lock()
        handler = type("Handler", (Handler,), {"backend": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def connect(self, login):
        form = urllib.parse.urlencode({"scope": "SERVER_ACCESS"}).encode()
        token = call(f"{self.basiq}/token", {"authorization": "Basic any", "basiq-version": "3.0"}, form)
        as_server = {"authorization": f"Bearer {token['access_token']}", **JSON}
        user = call(f"{self.basiq}/users", as_server, b'{"email":"person@example.com"}')
        job = call(f"{self.basiq}/users/{user['id']}/connections", as_server, json.dumps(login).encode())["id"]
        self.banks[job] = {"status": "working", "action": "none", "events": 0}
        request = {"jobId": job, "callbackUrl": f"http://127.0.0.1:{self.port}/hooks/bank"}
        watch = call(f"{self.relay}/watch", self.as_client, json.dumps(request).encode())
        self.banks[job]["watch"] = watch["id"]  # the event may have come already
        return {"job": job}

    def answer(self, job, response):
        watch = self.banks[job]["watch"]
        call(f"{self.relay}/watch/{watch}/mfa", self.as_client, json.dumps({"response": response}).encode())
        return {}

    def take(self, webhook_id, event):
        with self.lock:
            if webhook_id in self.seen:
                return
            self.seen.add(webhook_id)
            bank = self.banks.get(event.get("jobId"))
            if bank is not None:  # else it is a notice, or a type that is not known here
                bank.update(status=event["status"], action=event["action"], message=event["userMessage"])
                bank["events"] += 1


class Handler(BaseHTTPRequestHandler):
    backend = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/hooks/bank":
            if not is_signed(self.backend.secret, self.headers, body):
                return self.say(401)
            self.backend.take(self.headers["webhook-id"], json.loads(body))
            return self.say(204)
        _, _, job, *_ = [*self.path.split("/"), ""]
        try:
            said = self.backend.answer(job, json.loads(body)) if job else self.backend.connect(json.loads(body))
        except OSError:
            return self.say(502, {"error": "the bank cannot be reached now"})
        self.say(202, said)

    def do_GET(self):
        bank = self.backend.banks.get(self.path.rpartition("/")[2])
        self.say(404 if bank is None else 200, bank)

    def say(self, status, said=None):
        text = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", JSON["content-type"])
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Says nothing: the tests do."""
