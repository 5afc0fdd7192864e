"""Compares the system calls of the demo with those that the unit allows: calls.py BINARY UNIT."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def sets():
    """The sets of calls that systemd knows by name, each with its members."""
    text = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    found, name = {}, None
    for line in text.splitlines():
        word = line.strip()
        if line.startswith("@"):
            name = word
            found[name] = []
        elif line.startswith(" ") and word and not word.startswith("#") and name:
            found[name].append(word)
    return found


def expand(word, known):
    if not word.startswith("@"):
        return {word}
    return {call for member in known.get(word, []) for call in expand(member, known)}


def allowed(unit, known):
    """Later lines add to the list or, with `~`, take away from it. `@default` is always allowed."""
    calls = expand("@default", known)
    for line in Path(unit).read_text().splitlines():
        if not line.startswith("SystemCallFilter="):
            continue
        words = line.removeprefix("SystemCallFilter=")
        named = {call for word in words.lstrip("~").split() for call in expand(word, known)}
        calls = calls - named if words.startswith("~") else calls | named
    return calls


def used(binary, folder):
    table = Path(folder, "calls")
    # Not as root: SQLite makes calls as root that it does not make as the unit's user.
    os.chmod(folder, 0o777)
    command = ["strace", "-f", "-c", "-o", str(table), binary, "demo"]
    if os.geteuid() == 0:
        copy = Path(folder, "basiq-relay")
        copy.write_bytes(Path(binary).read_bytes())
        copy.chmod(0o755)
        command = ["runuser", "-u", "nobody", "--", *command[:5], str(copy), "demo"]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, "TMPDIR": folder}, capture_output=True, text=True, timeout=120)
    if ran.returncode != 0:
        sys.exit(f"the demo failed under strace:\n{ran.stdout}{ran.stderr}")
    rows = [line.split() for line in table.read_text().splitlines()]
    return {row[-1] for row in rows if len(row) >= 5 and row[0][0].isdigit() and row[-1] != "total"}


binary, unit = sys.argv[1:]
known = sets()
with tempfile.TemporaryDirectory() as folder:
    calls = used(binary, folder)
assert len(calls) > 30, calls
# The system starts the program before the filter counts.
refused = calls - allowed(unit, known) - {"execve"}
if refused:
    sys.exit(f"the unit refuses what the relay calls: {sorted(refused)}")
print(f"system calls: the unit allows all {len(calls)} that the demo makes")
