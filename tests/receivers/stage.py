"""A relay and a sandbox as processes on ports of their own, and what a backend does at each."""

import contextlib
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Failure(Exception):
    """Something is not as it has to be."""


def fail(why):
    raise Failure(why)


def wait_for(what, name, seconds=40):
    """Until it is so; fails when that takes too long. Returns what was found."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    fail(f"still not so after {seconds} s: {name}")


def free_port():
    """Finds a port below those that the system gives out, so that no other program takes it meanwhile by chance."""
    for port in random.sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    sys.exit("a hundred ports are in use")


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def call(url, headers=None, body=None, method=None):
    """Returns the status, the body as text, and the headers of an answer."""
    request = urllib.request.Request(url, body, headers or {}, method=method or ("GET" if body is None else "POST"))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode(), refused.headers


def ask(url, headers=None, body=None):
    """Returns the JSON of an answer, which has to be a good one."""
    status, text, _ = call(url, headers, body)
    if status >= 300:
        fail(f"{url}: {status} {text}")
    return json.loads(text)


class Stage:
    """Starts both in a folder; `close` ends them."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.processes = binary, folder, []
        self.basiq, self.relay = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RELAY_LISTEN": self.relay,
            "RELAY_DATABASE_URL": f"sqlite://{folder}/relay.db",
            "RELAY_BASIQ_URL": f"http://{self.basiq}",
            "RELAY_BASIQ_API_KEY": "any",
            "RELAY_CALLBACK_ALLOW_HTTP": "true",
            "RELAY_CALLBACK_ALLOW_NETWORKS": "127.0.0.0/8",
            "RELAY_POLL_MIN_INTERVAL": "200ms",
            "RELAY_UPSTREAM_RPS": "100",
        }
        self.client = json.loads(self.command("client", "add", "backend", "--json"))
        self.start("sandbox", [binary, "sandbox", "--listen", self.basiq, "--speed", "20"], self.settings)
        self.start("relay", [binary, "serve"], self.settings)
        self.command("healthcheck", "--wait", "20")

    def command(self, *arguments):
        """Runs a command of the relay to its end and returns what it says."""
        done = subprocess.run([self.binary, *arguments], env=self.settings, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"{arguments}: {done.stderr}")
        return done.stdout

    def start(self, name, command, environment):
        """Starts a process whose output goes to NAME.log."""
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def job(self, login="gavinBelson", password="hooli2016", bank="AU00000"):
        """A person connects a bank; returns the job's id."""
        form = urllib.parse.urlencode({"scope": "SERVER_ACCESS"}).encode()
        token = ask(f"http://{self.basiq}/token", {"authorization": "Basic any", "basiq-version": "3.0"}, form)
        headers = {"authorization": f"Bearer {token['access_token']}", "content-type": "application/json"}
        user = ask(f"http://{self.basiq}/users", headers, b'{"email":"person@example.com"}')
        body = {"loginId": login, "password": password, "institution": {"id": bank}}
        return ask(f"http://{self.basiq}/users/{user['id']}/connections", headers, json.dumps(body).encode())["id"]

    def api(self, path, body=None):
        """A call of the client to the relay; `body` is JSON."""
        headers = {"authorization": f"Bearer {self.client['apiKey']}", "content-type": "application/json"}
        return ask(f"http://{self.relay}{path}", headers, None if body is None else json.dumps(body).encode())

    def attempts(self, watch):
        """The statuses with which a callback answered, and the latest event's id."""
        events = self.api(f"/watch/{watch}")["events"]
        found = [attempt["status"] for event in events for one in event["deliveries"] for attempt in one["attempts"]]
        return found, events[-1]["id"] if events else None

    def end(self, process):
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                self.end(process)


def say(text):
    print(text, flush=True)


def complain(text):
    print(text, file=sys.stderr, flush=True)
