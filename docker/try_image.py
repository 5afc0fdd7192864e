"""Runs an image as a careful container engine would: try_image.py ROOT INSPECT VERSION, in namespaces that `check` makes.

The root is read-only, /data is a small file system in memory, the user is the image's, and there is no capability.
"""

import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

root, inspected, version = Path(sys.argv[1]), *sys.argv[2:]
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
USER = 65532
libc = ctypes.CDLL(None, use_errno=True)


def fail(why):
    sys.exit(f"docker/check: {why}")


def config():
    """What the image says of itself."""
    image = json.loads(Path(inspected).read_text())["Docker"]["config"]
    expected = {
        "User": f"{USER}:{USER}",
        "WorkingDir": "/data",
        "Entrypoint": ["/usr/local/bin/basiq-relay"],
        "Cmd": ["serve"],
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": {"/data": {}},
    }
    for key, value in expected.items():
        if image.get(key) != value:
            fail(f"{key} is {image.get(key)}")
    labels = image["Labels"]
    for label in ("title", "description", "licenses", "source", "revision", "base.name"):
        if not labels.get(f"org.opencontainers.image.{label}"):
            fail(f"there is no label {label}")
    if labels["org.opencontainers.image.version"] != version:
        fail(f"the label of the version is {labels['org.opencontainers.image.version']}")
    if image["Healthcheck"]["Test"][0] != "CMD":
        fail("the health check needs a shell")
    return image


def files():
    """What is in the image beside the base: one program and a folder."""
    folder = os.stat(root / "data")
    if (folder.st_uid, folder.st_gid) != (USER, USER):
        fail(f"/data belongs to {folder.st_uid}:{folder.st_gid}")
    for shell in ("bin/sh", "bin/bash", "bin/busybox", "usr/bin/sh"):
        if (root / shell).exists():
            fail(f"there is a shell: {shell}")
    size = 0
    for path in root.rglob("*"):
        info = path.lstat()
        size += info.st_size if stat.S_ISREG(info.st_mode) else 0
        if stat.S_ISREG(info.st_mode) and info.st_mode & (stat.S_ISUID | stat.S_ISGID):
            fail(f"{path} changes the user")
    binary = (root / "usr/local/bin/basiq-relay").stat().st_size
    print(f"image: {size >> 20} MiB, of which the relay is {binary >> 20}; no shell, no program that changes the user")


def mounts():
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("mount", "--bind", root, root),
        ("mount", "-o", "remount,bind,ro,nosuid,nodev", root),
        ("mount", "-t", "tmpfs", "-o", f"size=64m,mode=0755,uid={USER},gid={USER},noexec,nosuid,nodev", "data", root / "data"),
        ("mount", "-t", "proc", "proc", root / "proc"),
    ):
        subprocess.run(list(map(str, command)), check=True)


def enter():
    """In the child, before it becomes the program."""
    os.chroot(root)
    os.chdir("/data")
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def start(image, *command, **settings):
    environment = dict(one.split("=", 1) for one in image["Env"]) | settings
    return subprocess.Popen(
        list(command), env=environment, preexec_fn=enter, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(image, *command, timeout=60, **settings):
    process = start(image, *command, **settings)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def demo(image):
    # Its throw-away file is in the folder for such files, and the one place to write to is /data.
    code, output = run(image, *image["Entrypoint"], "demo", TMPDIR="/data")
    if code != 0:
        fail(f"the demo exited with {code}:\n{output}")
    print("demo:", output.strip().splitlines()[-1])


def relay(image):
    """The image's own command, its health check, and a stop."""
    settings = {"RELAY_BASIQ_API_KEY": "any", "RELAY_BASIQ_URL": "http://127.0.0.1:9"}
    process = start(image, *image["Entrypoint"], *image["Cmd"], **settings)
    check = image["Healthcheck"]["Test"][1:]
    end = time.monotonic() + 20
    while run(image, *check)[0] != 0:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            fail(f"the health check never succeeded:\n{process.communicate()[0]}")
        time.sleep(0.2)
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields["Uid"].split() != [str(USER)] * 4 or int(fields["CapBnd"], 16) or int(fields["CapEff"], 16):
        fail(f"it runs with Uid {fields['Uid']}, CapBnd {fields['CapBnd']}, CapEff {fields['CapEff']}")
    if not (root / "data/basiq-relay.db").exists():
        fail("its database is not in /data")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    if process.returncode != 0:
        fail(f"a stop ended with {process.returncode}:\n{output}")
    if run(image, *check)[0] == 0:
        fail("the health check succeeds without a relay")
    first = json.loads(output.splitlines()[0])
    print(f"serve: healthy as user {USER} without capabilities, log in JSON ({first['level']}), stopped by SIGTERM")


def read_only(image):
    code, output = run(image, *image["Entrypoint"], *image["Cmd"], RELAY_BASIQ_API_KEY="any", RELAY_DATABASE_URL="sqlite:///relay.db")
    if code != 1:
        fail(f"a database in the read-only root: exit code {code}:\n{output}")
    print("read-only: a database outside /data is refused")


image = config()
files()
mounts()
code, output = run(image, *image["Entrypoint"], "--version")
if code != 0 or version not in output:
    fail(f"--version: {code} {output}")
demo(image)
relay(image)
read_only(image)
