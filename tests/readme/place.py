"""Where the snippets run: a folder that looks like a fresh clone, a home, and shells that a newcomer types into."""

import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PORTS = (3001, 8080, 8090, 8091, 8180)


def fail(why):
    sys.exit(f"tests/readme: {why}")


def wait_for(what, name, seconds=40):
    """Until it is so; fails when it takes too long."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            fail(f"still not there after {seconds} s: {name}")
        time.sleep(0.1)


def free_ports():
    """The ports that README.md names are ours: a network of our own has to be switched on first."""
    if os.listdir("/sys/class/net") == ["lo"] or os.getpid() == 1:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
            up_and_running = struct.pack("16sh22x", b"lo", 0x1 | 0x40)
            fcntl.ioctl(lo, 0x8914, up_and_running)
    for port in PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            fail(f"port {port} is in use, and a network of our own cannot be had (unshare --net)")


class Place:
    """`clone` has what a clone has after the demo; `trial` is the folder that README.md makes."""

    def __init__(self, root, target):
        free_ports()
        self.root, self.clone, home = root, root / "clone", root / "home"
        self.trial = home / "relay-trial"
        (self.clone / "target").mkdir(parents=True)
        self.trial.mkdir(parents=True)
        (self.clone / "target/release").symlink_to(target)
        (self.clone / "examples").symlink_to(ROOT / "examples")
        # what `npm install standardwebhooks` would do
        (self.trial / "node_modules").symlink_to(HERE / "node_modules")
        self.environment = {
            "PATH": f"{HERE / 'stand-ins'}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "README_ROOT": str(ROOT),
            "README_EXAMPLE": str(target / "examples/backend"),
        }
        self.sessions = []
        self.shell = Shell(self, self.clone, {})

    def elsewhere(self, folder, **settings):
        """Another terminal, where basiq-relay is installed."""
        path = f"{self.clone}/target/release:{self.environment['PATH']}"
        return Shell(self, folder, {"PATH": path, **settings})

    def read(self, name):
        """What stands in a file of the trial."""
        path = self.trial / name
        return path.read_text() if path.exists() else ""

    def logs(self):
        """What everything wrote, for a look at what went wrong."""
        logs = [*self.trial.glob("*.log"), *self.root.glob("*.log"), *self.root.glob("*.out")]
        return "\n".join(f"== {log.name}\n{log.read_text()[-4000:]}" for log in logs)

    def end(self):
        """Ends all that was started here and still runs."""
        for session in self.sessions:
            try:
                os.killpg(session, signal.SIGTERM)
            except ProcessLookupError:
                pass


class Shell:
    """One terminal: what a snippet exports, and the folder it goes to, is there for the next."""

    def __init__(self, place, folder, settings):
        self.place = place
        self.state = place.root / f"shell{len(place.sessions)}-{folder.name}.sh"
        exports = (f"export {name}={value!r}\n" for name, value in settings.items())
        self.state.write_text(f"cd {folder}\n" + "".join(exports))

    def start(self, text, output):
        """Starts a snippet with its output in a file."""
        keep = f"{{ export -p; echo cd \"'$PWD'\"; }} > {self.state}"
        script = f"set -eu -o pipefail\n. {self.state}\n{text}\n{keep}\n"
        process = subprocess.Popen(
            ["bash", "-c", script],
            env=self.place.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.place.sessions.append(process.pid)
        return process

    def run(self, text):
        """Runs a snippet to its end, which has to be a good one; returns what it wrote."""
        path = self.place.root / f"{len(self.place.sessions)}.out"
        with path.open("w") as output:
            status = self.start(text, output).wait(timeout=120)
        if status != 0:
            fail(f"exit code {status} of\n{text}")
        return path.read_text()

    def tried(self, command):
        """Whether a command ends well."""
        script = f". {self.state}; {command}"
        tried = subprocess.run(["bash", "-c", script], env=self.place.environment, capture_output=True)
        return tried.returncode == 0

    def value(self, name):
        """An exported variable."""
        found = re.search(rf'^declare -x {name}="(.*)"$', self.state.read_text(), re.MULTILINE)
        return found[1]
