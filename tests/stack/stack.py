"""The services of docker/compose.yaml without Docker: each in a network of its own, with the files of docker/."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Docker's own range, so that the settings of compose.sandbox.yaml fit.
ADDRESSES = {
    "relay-1": "172.31.0.11",
    "relay-2": "172.31.0.12",
    "balancer": "172.31.0.20",
    "postgres": "172.31.0.30",
    "prometheus": "172.31.0.40",
    "sandbox": "172.31.0.50",
    "receiver": "172.31.0.51",
}
US = "172.31.0.1"


def fail(why):
    sys.exit(f"tests/stack: {why}")


def run(*command, **more):
    return subprocess.run(command, check=True, text=True, capture_output=True, **more).stdout


def wait_for(what, name, seconds):
    """Waits until `what` returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            fail(f"still not so after {seconds} s: {name}")
        time.sleep(0.2)


def ask(host, port, method, path, body=None, key=None, timeout=20):
    """One request on a connection of its own: status, headers, text."""
    connection = http.client.HTTPConnection(ADDRESSES.get(host, host), port, timeout=timeout)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        headers["content-type"] = "application/json"
        body = json.dumps(body)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


class Stack:
    """Everything in `folder`. Nothing outlives the namespaces that tests/stack/run made."""

    def __init__(self, folder, binary, prometheus):
        self.folder, self.binary, self.prometheus_binary = Path(folder), binary, prometheus
        # PostgreSQL does not run as root.
        self.folder.chmod(0o755)
        self.docker = self.folder / "docker"
        shutil.copytree(ROOT / "docker", self.docker)
        self.names = self.folder / "names.json"
        self.running, self.addresses_of = {}, {"relay": []}
        compose = yaml.safe_load((self.docker / "compose.yaml").read_text())
        sandbox = yaml.safe_load((self.docker / "compose.sandbox.yaml").read_text())
        self.services = {**compose["services"], **{name: sandbox["services"][name] for name in ("sandbox", "receiver")}}
        self.settings = {**compose["services"]["relay"]["environment"], **sandbox["services"]["relay"]["environment"]}
        self.networks()
        self.secrets()

    def networks(self):
        run("mount", "-t", "tmpfs", "none", "/run")
        Path("/run/netns").mkdir()
        resolv = self.folder / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.11\noptions timeout:1\n")
        run("mount", "--bind", str(resolv), str(Path("/etc/resolv.conf").resolve()))
        for command in ("link set lo up", "link add front type bridge", f"addr add {US}/24 dev front", "link set front up"):
            run("ip", *command.split())
        self.say_names()
        for host, address in ADDRESSES.items():
            run("ip", "netns", "add", host)
            cable = f"to-{host}"
            run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host)
            run("ip", "link", "set", cable, "master", "front", "up")
            for command in ("link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"):
                run("ip", "-n", host, *command.split())
            self.start(host, "dns", [sys.executable, str(HERE / "dns.py"), str(self.names)])

    def secrets(self):
        """As docker/make-secrets makes them, where Compose mounts them."""
        run(str(self.docker / "make-secrets"), "any")
        shutil.copytree(self.docker / "secrets", "/run/secrets")

    def say_names(self):
        """The DNS knows what runs, as Docker's does."""
        names = {host: [address] for host, address in ADDRESSES.items()} | self.addresses_of
        new = self.names.with_suffix(".new")
        new.write_text(json.dumps(names))
        new.rename(self.names)

    def start(self, host, name, command, environment=None):
        log = open(self.folder / f"{host}.{name}.log", "a")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RELAY_", "BASIQ_RELAY_"))}
        process = subprocess.Popen(
            ["ip", "netns", "exec", host, *command],
            env={**inherited, **(environment or {})}, stdout=log, stderr=log, cwd=self.folder,
        )
        self.running[host, name] = process
        return process

    def log(self, host, name="service"):
        path = self.folder / f"{host}.{name}.log"
        return path.read_text() if path.exists() else ""

    def start_postgres(self):
        """The server of tests/postgres, at the name and port that `make-secrets` writes into the address."""
        data = self.folder / "postgres"
        tool = ["ip", "netns", "exec", "postgres", str(ROOT / "tests/postgres")]
        if not (data / "data").exists():
            run(*tool, "start", str(data))
            run(*tool, "stop", str(data))
            with open(data / "data/postgresql.conf", "a") as more:
                more.write("listen_addresses = '*'\nport = 5432\nmax_connections = 300\n")
            with open(data / "data/pg_hba.conf", "a") as more:
                more.write("host all all 172.31.0.0/24 scram-sha-256\n")
            (data / "port").write_text("5432")
            run(*tool, "start", str(data))
            password = (self.docker / "secrets/postgres_password").read_text().strip()
            psql = ["ip", "netns", "exec", "postgres", self.psql(), "-qh", "127.0.0.1", "-U", "relay", "postgres", "-c"]
            run(*psql, f"ALTER ROLE relay PASSWORD '{password}'")
            run(*psql, "CREATE DATABASE relay")
        else:
            run(*tool, "start", str(data))

    def stop_postgres(self):
        run("ip", "netns", "exec", "postgres", str(ROOT / "tests/postgres"), "stop", str(self.folder / "postgres"))

    @staticmethod
    def psql():
        found = shutil.which("psql")
        return found or str(max(Path("/usr/lib/postgresql").glob("*/bin/psql")))

    def start_relay(self, host):
        self.start(host, "service", [self.binary, "serve"], self.settings)
        wait_for(lambda: self.is_ready(host), f"{host} is ready", 30)
        self.tell_of(host, True)

    def tell_of(self, host, is_there):
        there = set(self.addresses_of["relay"]) - {ADDRESSES[host]}
        self.addresses_of["relay"] = sorted(there | ({ADDRESSES[host]} if is_there else set()))
        self.say_names()

    def is_ready(self, host):
        try:
            return ask(host, 8080, "GET", "/readyz", timeout=3)[0] == 200
        except OSError:
            return False

    def end_relay(self, host, how):
        """Sends the relay a signal, and returns its exit code."""
        process = self.running[host, "service"]
        # `ip netns exec` becomes the program, so this is the relay itself.
        process.send_signal(how)
        code = process.wait(timeout=30)
        self.tell_of(host, False)
        return code

    def in_relay(self, *command):
        """As `docker compose exec relay`."""
        environment = {"PATH": os.environ["PATH"], **self.settings}
        return run("ip", "netns", "exec", "relay-1", self.binary, *command, env=environment)

    def start_rest(self):
        self.start("sandbox", "service", [self.binary, *self.services["sandbox"]["command"]])
        self.start("balancer", "service", ["haproxy", "-db", "-f", str(self.docker / "haproxy.cfg")])
        flags = [flag for flag in self.services["prometheus"]["command"] if flag.startswith("--storage.tsdb.retention")]
        self.start("prometheus", "service", [
            self.prometheus_binary, f"--config.file={self.docker}/prometheus/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/metrics", *flags,
        ])

    def start_receiver(self, secret):
        command = [self.binary, *self.services["receiver"]["command"]]
        self.start("receiver", "service", command, {"BASIQ_RELAY_SIGNING_SECRET": secret, "NO_COLOR": "1"})

    def received(self):
        """The watch of each event that arrived. Every watch here has one event, its end."""
        text = self.log("receiver")
        if "signature valid" not in text or "signature not valid" in text.lower():
            fail("the receiver met no valid signature, or an invalid one")
        return re.findall(r'"watchId": "(wch_[^"]+)"', text)

    def metrics(self, host):
        """The values of a relay's metrics by name and labels."""
        text = ask(host, 9090, "GET", "/metrics")[2]
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))

    def prometheus(self, path):
        try:
            status, _, text = ask("prometheus", 9090, "GET", path)
        except OSError:
            return None
        return json.loads(text)["data"] if status == 200 else None

    def logs(self):
        for path in sorted(self.folder.glob("*.service.log")):
            print(f"== {path.name}\n{path.read_text()[-3000:]}", file=sys.stderr)


SIGKILL, SIGTERM = signal.SIGKILL, signal.SIGTERM
