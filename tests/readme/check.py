"""Runs every fenced snippet of README.md, in its order and as it is written; `tests/readme/run` sets up for it.

PLAN says what is done with each. A snippet that it does not know, or that is gone, is a failure."""

import json
import pathlib
import re
import shutil
import sys
import tempfile
import tomllib

from backend import try_backend
from place import Place, ROOT, fail, wait_for

README = (ROOT / "README.md").read_text()
RELAY = "http://127.0.0.1:8080"


def snippets():
    """Each fenced block as (heading, language, text)."""
    found, heading, language, lines = [], "", None, []
    for line in README.splitlines():
        if language is None and line.startswith("#"):
            heading = line.lstrip("# ")
        elif language is None and line.startswith("```"):
            language, lines = line[3:], []
        elif line == "```":
            found.append((heading, language, "\n".join(lines) + "\n"))
            language = None
        elif language is not None:
            lines.append(line)
    return found


def run(place, text):
    """The way of most: it is run in the newcomer's shell and has to end well."""
    place.shell.run(text)


def show_event(place, text):
    place.shown_event = json.loads(text)


def show_way(place, text):
    """The picture names a call, its fields and its answer that the API has."""
    api = json.loads((ROOT / "openapi/openapi.json").read_text())
    call = api["paths"]["/watch"]["post"]
    fields = api["components"]["schemas"]["WatchRequest"]["properties"]
    for word in re.search(r"POST /watch \((.*)\)", text)[1].split(", "):
        if word not in fields:
            fail(f"POST /watch has no {word}")
    if "202" not in text or "202" not in call["responses"]:
        fail("POST /watch answers 202")


def two_commands(_place, text):
    """`.ci/run` runs both; here they would take minutes, and the second would run this."""
    lines = (ROOT / ".ci/run").read_text().replace(" --locked", "").splitlines()
    for line in text.splitlines():
        command = line.split("#")[0].strip()
        if not any(re.fullmatch(rf"(timeout \d+ )?{re.escape(command)}", known) for known in lines):
            fail(f".ci/run does not run `{command}`")


def events(place):
    """The events that `listen` printed so far."""
    bodies = re.findall(r"^\{$.*?^\}$", place.read("events.log"), re.MULTILINE | re.DOTALL)
    return [json.loads(body) for body in bodies]


def by_curl(place, text):
    if "HTTP/1.1 202" not in place.shell.run(text):
        fail("the watch was not answered with 202")
    wait_for(lambda: "signature valid" in place.read("events.log"), "the event of curl's watch")


def followed(place, text):
    """The event that README.md shows is the one of such a job, but for ids and times."""
    said = place.shell.run(text)
    if "invalid-credentials" not in said or "it did not succeed" not in said:
        fail(f"the watch was not followed to its failure: {said}")
    event = events(place)[-1]
    for name in ("timestamp", "watchId", "jobId"):
        event[name] = place.shown_event[name]
    for name in ("userId", "connectionId"):
        event["context"][name] = place.shown_event["context"][name]
    if event != place.shown_event:
        fail(f"README.md shows another event than the relay sends:\n{event}\n{place.shown_event}")


def subscribed(place, text):
    """Each event of the subscription arrives, verified."""
    if "subscribed to" not in place.shell.run(text):
        fail("`subscribe` did not say that it subscribed")

    def both_came():
        found = {event["type"] for event in events(place) if event["context"]["subscriptionId"]}
        return found == {"job.success", "notice.consent-expiring"}

    wait_for(both_came, "the two events of the subscription")


def show_notice(place, text):
    """The notice that README.md shows is the one that came, but for ids and times."""
    shown = json.loads(text)
    [notice] = [event for event in events(place) if event["type"].startswith("notice.")]
    notice["timestamp"] = shown["timestamp"]
    for name in ("userId", "subscriptionId"):
        notice["context"][name] = shown["context"][name]
    if notice != shown:
        fail(f"README.md shows another notice than the relay sends:\n{notice}\n{shown}")


def save(name):
    return lambda place, text: (place.trial / name).write_text(text)


def same_as_the_example(_place, text):
    example = (ROOT / "examples/backend.rs").read_text()
    if example[example.index("use std") :] != text:
        fail("README.md shows another program than examples/backend.rs")


def settings_file(place, text):
    """A relay starts with it, its folders elsewhere."""
    folders = {"/etc/basiq-relay": place.root / "etc", "/var/lib/basiq-relay": place.root / "var"}
    for name, folder in folders.items():
        folder.mkdir()
        text = text.replace(name, str(folder))
    settings = folders["/etc/basiq-relay"] / "relay.toml"
    settings.write_text(text)
    secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    for path in (path for key, path in tomllib.loads(text).items() if key.endswith("_file")):
        pathlib.Path(path).write_text(secret)
    shell = place.elsewhere(place.root, RELAY_LISTEN="127.0.0.1:8180")
    shell.run(f"basiq-relay serve --config {settings} 2> serve.log &\n")
    asked = "basiq-relay healthcheck --url http://127.0.0.1:8180"
    wait_for(lambda: shell.tried(asked), f"a relay with the settings of README.md: {asked}")
    json.loads((place.root / "serve.log").read_text().splitlines()[0])


def in_docker(place, text):
    shutil.copytree(ROOT / "docker", place.clone / "docker", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(ROOT / "Dockerfile", place.clone)
    place.elsewhere(place.clone).run(text)


def operated(place, text):
    said = place.shell.run(text)
    for word in ('"upstream"', "relay_watches{", "whsec_", "my-backend"):
        if word not in said:
            fail(f"no {word} in:\n{said}")


def backend(place, text):
    try_backend(place, RELAY, text)


PLAN = [
    ("basiq-relay", "json", show_event),
    ("basiq-relay", "mermaid", show_way),
    ("Two commands", "sh", two_commands),
    ("Use it in your backend", "sh", run),
    ("curl", "sh", by_curl),
    ("curl", "sh", followed),
    ("curl", "sh", subscribed),
    ("curl", "json", show_notice),
    ("Node", "js", save("backend.mjs")),
    ("Node", "sh", backend),
    ("Python", "python", save("backend.py")),
    ("Python", "sh", backend),
    ("Rust", "sh", run),
    ("Rust", "rust", same_as_the_example),
    ("Rust", "sh", backend),
    ("Deploy it", "toml", settings_file),
    ("Deploy it", "sh", in_docker),
    ("Operate it", "sh", operated),
]


def main():
    found = snippets()
    known = [(heading, language) for heading, language, _ in PLAN]
    if [(heading, language) for heading, language, _ in found] != known:
        fail(f"README.md has other snippets than PLAN in {__file__}: {[f[:2] for f in found]}")
    for tool in ("npm install", "pip install"):
        if f"`{tool} standardwebhooks`" not in README:
            fail(f"README.md does not say how to get the library with {tool}")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(pathlib.Path(folder), pathlib.Path(sys.argv[1]).resolve())
        try:
            for (heading, language, text), (_, _, way) in zip(found, PLAN):
                print(f"{heading}: {language}", flush=True)
                way(place, text)
        except SystemExit:
            print(place.logs(), file=sys.stderr)
            raise
        finally:
            place.end()


if __name__ == "__main__":
    main()
