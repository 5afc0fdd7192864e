"""What tests/stack shows, step by step: check.py BINARY PROMETHEUS, within the namespaces that run makes."""

import http.client
import json
import sys
import tempfile
import threading
import time
import traceback
from urllib.parse import quote

import yaml
from stack import ADDRESSES, ROOT, SIGKILL, SIGTERM, Stack, ask, fail, wait_for

STARTED = time.monotonic()
# Enough that both relays have work in hand when one is killed; few enough for Basiq's budget of 20 calls a second.
WATCHES = 60
PAUSE = 0.35


def say(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


class Sandbox:
    """Starts jobs as a backend does at Basiq."""

    def __init__(self):
        connection = http.client.HTTPConnection(ADDRESSES["sandbox"], 8090, timeout=10)
        headers = {"authorization": "Basic any", "basiq-version": "3.0", "content-type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/token", "scope=SERVER_ACCESS", headers)
        self.token = json.load(connection.getresponse())["access_token"]
        connection.close()

    def job(self):
        login = {"institution": {"id": "AU00000"}, "loginId": "gavinBelson", "password": "hooli2016"}
        user = self.post("/users", {"email": "person@example.com"})
        return self.post(f"/users/{user}/connections", login)

    def post(self, path, body):
        status, _, text = ask("sandbox", 8090, "POST", path, body, self.token)
        if status not in (200, 201, 202):
            fail(f"the sandbox answered {status} to {path}: {text}")
        return json.loads(text)["id"]


class Load:
    """Registers a watch every so often through the balancer, from a thread of its own."""

    def __init__(self, sandbox, key):
        self.sandbox, self.key = sandbox, key
        self.accepted, self.odd = [], []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for _ in range(WATCHES):
            job = self.sandbox.job()
            watch = self.register(job)
            if watch:
                self.accepted.append(watch)
            time.sleep(PAUSE)

    def register(self, job):
        """As a client does: what got no clear answer is sent again. The second answer is the watch that is there already."""
        for _ in range(5):
            try:
                status, _, text = register(self.key, job)
            except (OSError, http.client.HTTPException) as error:
                status, text = type(error).__name__, ""
            if status in (200, 202):
                return json.loads(text)["id"]
            self.odd.append(status)
            time.sleep(0.2)
        return None


def register(key, job):
    return ask("balancer", 8080, "POST", "/watch", {"jobId": job, "callbackUrl": "http://receiver:8091/hook"}, key)


def balance(stack, key):
    def served():
        counted = {}
        for host in ("relay-1", "relay-2"):
            rows = stack.metrics(host).items()
            counted[host] = sum(float(value) for name, value in rows if name.startswith('relay_http_requests_total{') and '"/watch"' in name)
        return counted

    before = served()
    for _ in range(40):
        status, _, text = ask("balancer", 8080, "GET", "/watch?limit=1", key=key)
        if status != 200:
            fail(f"a list through the balancer: {status} {text}")
    shares = {host: int(now - before[host]) for host, now in served().items()}
    if min(shares.values()) < 10:
        fail(f"the balancer prefers one: {shares}")
    say(f"balance: 40 requests, {shares}")


def stream(stack, sandbox, key):
    """A stream through the balancer, of a job that both relays may look at, from its first step to its end."""
    job = sandbox.job()
    _, _, text = register(key, job)
    watch = json.loads(text)
    connection = http.client.HTTPConnection(ADDRESSES["balancer"], 8080, timeout=40)
    connection.request("GET", watch["streamUrl"])
    answer = connection.getresponse()
    if answer.status != 200:
        fail(f"a stream through the balancer: {answer.status}")
    opened, times = time.monotonic(), []
    names = []
    for line in answer:
        if line.startswith(b"event: "):
            names.append(line[7:].decode().strip())
            times.append(round(time.monotonic() - opened, 1))
        if names and names[-1] == "end":
            break
    connection.close()
    if names[:1] != ["progress"] or "job.success" not in names or len(set(times)) < 3:
        fail(f"the stream told {list(zip(names, times))}: it was held back, or lacks something")
    lines = wait_for(lambda: [line for line in stack.log("balancer").splitlines() if "/stream" in line], "the stream is logged", 5)
    if "signature" in stack.log("balancer"):
        fail(f"the balancer's log has the signature of a stream's address: {lines}")
    say(f"stream through the balancer: {len(names)} events between {times[0]} s and {times[-1]} s, {names[-2]} then {names[-1]}")
    return watch["id"]


def kill_and_drain(stack, sandbox, key):
    """One relay dies without warning, later the other is asked to stop, while clients register watches."""
    load = Load(sandbox, key)
    wait_for(lambda: len(load.accepted) >= 15, "the first watches are registered", 30)
    stack.end_relay("relay-1", SIGKILL)
    say(f"killed relay-1 after {len(load.accepted)} watches")
    wait_for(lambda: len(load.accepted) >= 28, "watches are registered at the relay that is left", 30)
    stack.start_relay("relay-1")
    # The balancer finds it within seconds, as after a restart by Docker.
    wait_for(lambda: ready_servers(stack) == 2, "the balancer has both relays again", 20)
    before = len(load.odd)
    code = stack.end_relay("relay-2", SIGTERM)
    if code != 0:
        fail(f"a relay that was asked to stop exited with {code}")
    say(f"drained relay-2 after {len(load.accepted)} watches; its exit code was 0")
    wait_for(lambda: len(load.accepted) >= 48, "watches are registered at the relay that is left", 30)
    stack.start_relay("relay-2")
    load.thread.join(timeout=60)
    if len(load.accepted) != WATCHES:
        fail(f"{len(load.accepted)} of {WATCHES} registrations were accepted; others were answered {load.odd}")
    if load.odd[before:]:
        fail(f"clients noticed the drain: {load.odd[before:]}")
    say(f"all {WATCHES} registrations accepted; sent again after the kill: {before} {load.odd or ''}, after the drain: 0")
    return load.accepted


def ready_servers(stack):
    text = ask("balancer", 8404, "GET", "/metrics")[2]
    rows = [line for line in text.splitlines() if line.startswith('haproxy_backend_active_servers{proxy="relays"}')]
    return int(float(rows[0].rsplit(" ", 1)[1])) if rows else 0


def rules_and_targets(stack):
    def targets():
        found = stack.prometheus("/api/v1/targets?state=active")
        up = [(one["labels"]["job"], one["labels"]["instance"]) for one in found["activeTargets"] if one["health"] == "up"]
        jobs = sorted(job for job, _ in up)
        return up if jobs == ["balancer", "prometheus", "relay", "relay"] else None

    found = wait_for(targets, "Prometheus finds two relays, the balancer and itself", 60)
    say(f"targets: {', '.join(f'{job} {instance}' for job, instance in sorted(found))}")
    written = yaml.safe_load((ROOT / "docker/prometheus/alerts.yml").read_text())
    wanted = {rule["alert"] for group in written["groups"] for rule in group["rules"]}
    groups = stack.prometheus("/api/v1/rules")["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    if set(loaded) != wanted or "err" in loaded.values():
        fail(f"rules: loaded {loaded}, written {wanted}")
    say(f"rules: all {len(loaded)} alerts are loaded, none in error")


def alert_state(stack, name):
    """`firing`, `pending` or None."""
    states = {one["state"] for one in stack.prometheus("/api/v1/alerts")["alerts"] if one["labels"]["alertname"] == name}
    return next(iter(sorted(states)), None)


def alert(stack, key, sandbox):
    """PostgreSQL goes away and comes back; the alert about it fires and is resolved."""
    if alert_state(stack, "NoRelayReady"):
        fail("NoRelayReady fires before anything happened")
    stack.stop_postgres()
    say("stopped PostgreSQL, as a crash would")

    def problem():
        """What clients are told: first by the relays, then by the balancer, which knows of none that is ready."""
        status, headers, text = register(key, "anything")
        if status != 503 or not headers.get("retry-after"):
            fail(f"without PostgreSQL clients get {status}: {text}")
        return json.loads(text)["type"]

    wait_for(lambda: problem() == "/problems/not-ready", "the balancer answers for the relays", 30)
    say("clients get 503 with Retry-After, first from the relays, then from the balancer")
    wait_for(lambda: alert_state(stack, "NoRelayReady") == "firing", "NoRelayReady fires", 90)
    say("NoRelayReady fires")
    stack.start_postgres()
    wait_for(lambda: ready_servers(stack) == 2, "both relays are ready again, by themselves", 30)
    _, _, text = register(key, sandbox.job())
    say("PostgreSQL is back, both relays are ready by themselves, and a watch is registered")
    return json.loads(text)["id"]


def nothing_is_lost(stack, watches):
    def missing():
        return set(watches) - set(stack.received())

    wait_for(lambda: not missing(), "each watch was told", 90)
    got = [watch for watch in stack.received() if watch in set(watches)]
    say(f"nothing lost: all {len(watches)} watches were told, with valid signatures; {len(got) - len(set(got))} events came twice")


def queries(panels):
    """The titles and queries of the dashboard's panels."""
    for panel in panels:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", []))
        yield from queries(panel.get("panels", []))


def has_value(stack, title, query):
    answer = stack.prometheus("/api/v1/query?query=" + quote(query.replace("$__rate_interval", "1m")))
    if answer is None:
        fail(f"Prometheus refuses the query of {title!r}: {query}")
    return any(one["value"][1] != "NaN" for one in answer["result"])


def dashboard(stack):
    """Prometheus answers every query, and has a value wherever something happened."""
    # They tell of alerts and of Basiq's webhooks, and there are none yet.
    silent = ("ALERTS", "relay_hints_total")
    every = list(queries(json.loads((ROOT / "docker/grafana/dashboards/basiq-relay.json").read_text())["panels"]))
    if len(every) < 40:
        fail(f"only {len(every)} queries were found")
    for title, query in every:
        if any(word in query for word in silent):
            has_value(stack, title, query)
        else:
            # A rate needs two readings, 15 s apart, with something between them.
            wait_for(lambda: has_value(stack, title, query), f"a value of {title!r}: {query}", 45)
    say(f"dashboard: {len(every)} queries of {len(dict(every))} panels answered")


def main():
    binary, prometheus = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(folder, binary, prometheus)
        try:
            stack.start_postgres()
            for host in ("relay-1", "relay-2"):
                stack.start_relay(host)
            stack.start_rest()
            wait_for(lambda: ready_servers_or_none(stack) == 2, "the balancer finds both relays", 30)
            client = json.loads(stack.in_relay("client", "add", "stack", "--json"))
            key = client["apiKey"]
            stack.start_receiver(client["signingSecret"])
            sandbox = Sandbox()
            say("PostgreSQL, two relays, HAProxy, Prometheus, sandbox and receiver run")
            balance(stack, key)
            watches = [stream(stack, sandbox, key)]
            rules_and_targets(stack)
            watches += kill_and_drain(stack, sandbox, key)
            dashboard(stack)
            watches.append(alert(stack, key, sandbox))
            nothing_is_lost(stack, watches)
            wait_for(lambda: alert_state(stack, "NoRelayReady") is None, "NoRelayReady is resolved", 60)
            say("NoRelayReady is resolved")
        except BaseException as error:
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            stack.logs()
            raise
        finally:
            for process in stack.running.values():
                process.kill()
            if (stack.folder / "postgres/data/postmaster.pid").exists():
                stack.stop_postgres()
    say("done")


def ready_servers_or_none(stack):
    try:
        return ready_servers(stack)
    except OSError:
        return None


if __name__ == "__main__":
    main()
