"""Starts a relay with the settings of the rendered manifests and asks its probes: relay.py BINARY FILE.yaml.

Addresses and the folder of secrets are this machine's, the database is a SQLite file; all else is what the pod gets.
"""

import contextlib
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import yaml

binary, rendered = sys.argv[1:]
documents = list(yaml.safe_load_all(Path(rendered).read_text()))
settings = next(one["data"] for one in documents if one["metadata"]["name"].startswith("relay-settings"))
pod = next(one for one in documents if one["kind"] == "Deployment")["spec"]["template"]["spec"]
container = pod["containers"][0]


def free_port():
    """Finds a port below those that the system gives out, so that no other program takes it meanwhile by chance."""
    for port in random.sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    sys.exit("a hundred ports are in use")


def answer(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as got:
            return got.status
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return None


def environment(folder, ports):
    """What the pod gets, with every address of the cluster replaced by one of this machine."""
    mount = next(one["mountPath"] for one in container["volumeMounts"] if one["name"] == "secrets")
    own = {name: value.replace(mount, f"{folder}/secrets").replace("/data/", f"{folder}/") for name, value in settings.items()}
    for name in ("RELAY_LISTEN", "RELAY_METRICS_LISTEN"):
        inside = settings[name].rsplit(":", 1)[1]
        own[name] = f"127.0.0.1:{ports[int(inside)]}"
    # Nobody is called: no watch is registered, and this is no Basiq.
    own["RELAY_BASIQ_URL"] = "http://127.0.0.1:9"
    return own


def check(folder):
    kept = folder / "secrets"
    kept.mkdir()
    for name, value in {
        "basiq_api_key": "any",
        "basiq_webhook_secret": "",
        "admin_token": secrets.token_hex(32),
        "encryption_key": b64encode(secrets.token_bytes(32)).decode(),
        "database_url": f"sqlite://{folder}/other.db",
    }.items():
        (kept / name).write_text(value)
    ports = {port["containerPort"]: free_port() for port in container["ports"]}
    by_name = {port["name"]: ports[port["containerPort"]] for port in container["ports"]}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    with open(folder / "log", "w") as log:
        relay = subprocess.Popen(
            [binary, *container["args"]], env={**inherited, **environment(folder, ports)}, cwd=folder, stderr=log
        )
    try:
        probe = container["readinessProbe"]["httpGet"]
        deadline = time.monotonic() + 20
        while answer(by_name[probe["port"]], probe["path"]) != 200:
            if relay.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"no relay became ready with these settings:\n{(folder / 'log').read_text()}")
            time.sleep(0.1)
        for kind in ("startup", "liveness", "readiness"):
            probe = container[f"{kind}Probe"]["httpGet"]
            assert answer(by_name[probe["port"]], probe["path"]) == 200, kind
        monitor = next(one for one in documents if one["kind"] == "PodMonitor")["spec"]["podMetricsEndpoints"][0]
        assert answer(by_name[monitor["port"]], monitor["path"]) == 200, "metrics"
        assert answer(by_name["http"], "/metrics") == 404, "metrics are published"
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(timeout=20) == 0, "a stop that fails"
    finally:
        if relay.poll() is None:
            relay.kill()
            relay.wait()


with tempfile.TemporaryDirectory() as folder:
    check(Path(folder))
print("a relay with these settings: ready, probes and metrics answered, stopped by SIGTERM")
