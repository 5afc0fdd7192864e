"""Runs each receiver of examples/receivers whose tools are here against a relay and a sandbox; `run` sets up for it.

A receiver has to take what the relay sends, once, and to refuse whatever is not genuine."""

import base64
import concurrent.futures
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

from stage import ROOT, Failure, Stage, call, complain, fail, free_port, is_open, say, wait_for

RECEIVERS = ROOT / "examples/receivers"
GO_PACKAGES = "/usr/share/gocode"
JARS = ["/usr/share/java/gson.jar", "/usr/share/java/sqlite-jdbc.jar"]
GOOD, REFUSED, LATER = 204, 401, 503


class Receiver:
    """A program of examples/receivers: what it needs, and how it is started."""

    def __init__(self, name, needs, command, build=None, environment=None):
        self.name, self.needs, self.command = name, needs, command
        self.build, self.environment = build, environment or {}

    def missing(self):
        """What it needs and is not here: a program, or a file by its path."""
        return [need for need in self.needs if not (pathlib.Path(need).exists() or shutil.which(need))]


def receivers(node):
    """All of them, in the order of the page. `{port}` and `{folder}` are filled in."""
    go = {"GO111MODULE": "off", "GOPATH": GO_PACKAGES, "GOCACHE": "{folder}/go-cache"}
    return [
        Receiver("node", [node], [node, f"{RECEIVERS}/node/receiver.mjs"]),
        Receiver("python", [sys.executable], [sys.executable, f"{RECEIVERS}/python/receiver.py"]),
        Receiver(
            "go",
            ["go", "cc", f"{GO_PACKAGES}/src/github.com/mattn/go-sqlite3"],
            ["{folder}/go-receiver"],
            ["go", "build", "-o", "{folder}/go-receiver", f"{RECEIVERS}/go/receiver.go"],
            go,
        ),
        Receiver("java", ["javac", *JARS], ["java", "-cp", ":".join(JARS), f"{RECEIVERS}/java/Receiver.java"]),
        Receiver(
            "csharp",
            ["dotnet"],
            ["dotnet", "{folder}/csharp/Receiver.dll"],
            ["dotnet", "publish", f"{RECEIVERS}/csharp", "-o", "{folder}/csharp", "--artifacts-path", "{folder}/net"],
        ),
        Receiver("php", ["php"], ["php", "-S", "127.0.0.1:{port}", f"{RECEIVERS}/php/receiver.php"]),
        Receiver("ruby", ["ruby"], ["ruby", f"{RECEIVERS}/ruby/receiver.rb"]),
    ]


def sign(secret, event, at, body):
    """Signs by this file's own hand, after the Standard Webhooks specification."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{event}.{at}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return {"webhook-id": event, "webhook-timestamp": str(at), "webhook-signature": signature}


def news(job, **fields):
    """The body of an event, as far as receivers read it."""
    event = {"type": "job.failed", "jobId": job, "status": "failed", "action": "retry", "context": {"userId": "u-1"}}
    return json.dumps({**event, "userMessage": "Zoë's bank", **fields}, ensure_ascii=False).encode()


class Trial:
    """One receiver, running, with its database."""

    def __init__(self, stage, receiver):
        self.stage, self.receiver = stage, receiver
        self.port, self.secret = free_port(), stage.client["signingSecret"]
        self.hook = f"http://127.0.0.1:{self.port}/hooks/bank"
        self.database = stage.folder / f"{receiver.name}.db"
        fill = {"port": self.port, "folder": stage.folder}
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(stage.folder),
            "BASIQ_RELAY_SIGNING_SECRET": self.secret,
            "PORT": str(self.port),
            "DATABASE": str(self.database),
            **{name: value.format(**fill) for name, value in receiver.environment.items()},
        }
        if receiver.build:
            command = [part.format(**fill) for part in receiver.build]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
            if done.returncode != 0:
                fail(f"it does not build: {done.stdout}{done.stderr}")
        command = [part.format(**fill) for part in receiver.command]
        self.process = stage.start(receiver.name, command, environment)
        wait_for(lambda: is_open(self.port), "the receiver listens", 60)

    def post(self, headers, body):
        return call(self.hook, {**headers, "content-type": "application/json"}, body)[0]

    def signed(self, event, body, at=None, secret=None):
        return sign(secret or self.secret, event, int(time.time()) if at is None else at, body)

    def rows(self, sql):
        with contextlib.closing(sqlite3.connect(self.database, timeout=10)) as db:
            return db.execute(sql).fetchall()

    def webhooks(self):
        return sorted(row[0] for row in self.rows("SELECT id FROM webhooks"))

    def told(self, about):
        """Type, action and message of what was told, and how often."""
        return [row[1:] for row in self.rows("SELECT about, type, action, message, told FROM news") if row[0] == about]

    def expect(self, found, expected, what):
        if found != expected:
            fail(f"{what}: {found}, not {expected}")

    def takes_what_the_relay_sends_and_a_duplicate_once(self):
        job = self.stage.job()
        self.watch = self.stage.api("/watch", {"jobId": job, "callbackUrl": self.hook})["id"]
        wait_for(lambda: self.stage.attempts(self.watch)[0], "an attempt of the relay's")
        attempts, event = self.stage.attempts(self.watch)
        self.expect(attempts, [GOOD], "the relay's first attempt")
        [(kind, action, message, times)] = self.told(job)
        self.expect((kind, action, times), ("job.success", "none", 1), "what the receiver did")
        self.stage.api(f"/watch/{self.watch}/redeliver", {})
        wait_for(lambda: len(self.stage.attempts(self.watch)[0]) == 2, "the second attempt")
        self.expect(self.stage.attempts(self.watch)[0], [GOOD, GOOD], "the attempts, one of them a duplicate")
        self.expect(self.told(job), [(kind, action, message, 1)], "what the receiver did, after the duplicate")
        self.expect(self.webhooks(), [event], "ids of webhooks")

    def takes_a_failure_of_the_relays_with_its_action(self):
        job = self.stage.job(password="mistyped")
        watch = self.stage.api("/watch", {"jobId": job, "callbackUrl": self.hook})["id"]
        wait_for(lambda: self.stage.attempts(watch)[0] == [GOOD], "the failure's attempt")
        self.expect(self.told(job)[0][:2], ("job.failed", "resubmit-credentials"), "what the receiver did")

    def refuses_what_is_not_genuine(self):
        before, body, now = self.webhooks(), news("j-forged"), int(time.time())
        right = self.signed("evt_forged", body)
        other = "whsec_" + base64.b64encode(b"another secret of 32 random bytes").decode()
        tries = {
            "another body": (right, body.replace(b"retry", b"none!")),
            "another secret": (self.signed("evt_forged", body, secret=other), body),
            "another id": ({**right, "webhook-id": "evt_other"}, body),
            "another time": ({**right, "webhook-timestamp": str(now - 1)}, body),
            "too old": (self.signed("evt_forged", body, at=now - 400), body),
            "too new": (self.signed("evt_forged", body, at=now + 400), body),
            "no headers": ({}, body),
            "an empty id": (self.signed("", body), body),
            "no id": ({name: value for name, value in right.items() if name != "webhook-id"}, body),
            "no time": ({name: value for name, value in right.items() if name != "webhook-timestamp"}, body),
            "no signature": ({name: value for name, value in right.items() if name != "webhook-signature"}, body),
            "an odd time": ({**right, "webhook-timestamp": "yesterday"}, body),
            "a long time": ({**right, "webhook-timestamp": "9" * 40}, body),
            "garbage": ({**right, "webhook-signature": "garbage"}, body),
            "an empty signature": ({**right, "webhook-signature": "v1,"}, body),
            "another scheme": ({**right, "webhook-signature": right["webhook-signature"].replace("v1,", "v2,")}, body),
            "nothing": (right, b""),
        }
        for name, (headers, sent) in tries.items():
            self.expect(self.post(headers, sent), REFUSED, name)
        self.expect(self.webhooks(), before, "ids of webhooks, after those that were refused")

    def takes_a_signature_beside_others(self):
        body = news("j-two")
        headers = self.signed("evt_two", body)
        headers["webhook-signature"] = "v1a,b3RoZXI= v1,b3RoZXI= " + headers["webhook-signature"]
        self.expect(self.post(headers, body), GOOD, "the right signature behind others")
        self.expect(self.told("j-two"), [("job.failed", "retry", "Zoë's bank", 1)], "what the receiver did")

    def takes_notices_and_ignores_other_types(self):
        notice = news(None, type="notice.consent-expiring", action="reauthorise")
        self.expect(self.post(self.signed("evt_notice", notice), notice), GOOD, "a notice")
        self.expect(self.told("u-1")[0][:2], ("notice.consent-expiring", "reauthorise"), "what the receiver did")
        odd = json.dumps({"type": "relay.test", "more": 1}).encode()
        self.expect(self.post(self.signed("evt_odd", odd), odd), GOOD, "a type that nobody knows")

    def takes_the_same_event_once_when_it_comes_eight_times_at_once(self):
        body = news("j-eight")
        headers = self.signed("evt_eight", body)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.post(headers, body), range(8)))
        self.expect(answers, [GOOD] * 8, "eight at once")
        self.expect(self.told("j-eight")[0][-1], 1, "how often the work was done")

    def forgets_an_event_whose_work_failed(self):
        """The id may not be stored without the work: the next attempt would be taken for a duplicate."""
        body = news(None, context={"userId": None})  # about nobody, which the table refuses
        self.expect(self.post(self.signed("evt_again", body), body), LATER, "work that fails")
        self.expect("evt_again" in self.webhooks(), False, "the id is stored although the work failed")
        body = news("j-failed")
        self.expect(self.post(self.signed("evt_again", body), body), GOOD, "the next attempt")
        self.expect(self.told("j-failed")[0][-1], 1, "how often the work was done")

    def asks_for_another_attempt_while_its_database_is_locked(self):
        body = news("j-locked")
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            self.expect(self.post(self.signed("evt_locked", body), body), LATER, "a locked database")
            other.execute("ROLLBACK")
        self.expect(self.post(self.signed("evt_locked", body), body), GOOD, "the next attempt")
        self.expect(self.told("j-locked")[0][-1], 1, "how often the work was done")

    def answers_fast(self):
        body = news("j-fast")
        began = time.monotonic()
        self.expect(self.post(self.signed("evt_fast", body), body), GOOD, "an event")
        if time.monotonic() - began > 2:
            fail(f"the answer took {time.monotonic() - began:.1f} s")

    def takes_what_two_secrets_signed(self):
        """The client's secret was replaced: the relay signs with both, and the receiver has the old one."""
        attempts = len(self.stage.attempts(self.watch)[0])
        self.stage.api(f"/watch/{self.watch}/redeliver", {})
        wait_for(lambda: len(self.stage.attempts(self.watch)[0]) > attempts, "an attempt with two signatures")
        self.expect(set(self.stage.attempts(self.watch)[0]), {GOOD}, "the attempts")


CHECKS = [
    Trial.takes_what_the_relay_sends_and_a_duplicate_once,
    Trial.takes_a_failure_of_the_relays_with_its_action,
    Trial.refuses_what_is_not_genuine,
    Trial.takes_a_signature_beside_others,
    Trial.takes_notices_and_ignores_other_types,
    Trial.takes_the_same_event_once_when_it_comes_eight_times_at_once,
    Trial.forgets_an_event_whose_work_failed,
    Trial.asks_for_another_attempt_while_its_database_is_locked,
    Trial.answers_fast,
]


def attempt(trial, check):
    """Whether a check of a receiver passes."""
    try:
        check(trial)
    except (Failure, ValueError, IndexError, OSError) as error:
        complain(f"  {trial.receiver.name} FAILED: {check.__name__}: {error!r}\n{trial.stage.log(trial.receiver.name)}")
        return False
    say(f"  {trial.receiver.name}: {check.__name__.replace('_', ' ')}")
    return True


def try_all(stage, chosen):
    """Returns how many checks passed, failed and were not made."""
    passed = failed = skipped = 0
    trials = []
    for receiver in chosen:
        if missing := receiver.missing():
            say(f"{receiver.name}: NOT RUN, not on this machine: {', '.join(missing)}")
            skipped += len(CHECKS) + 1
            continue
        say(f"{receiver.name}:")
        try:
            trials.append(Trial(stage, receiver))
        except (Failure, subprocess.TimeoutExpired) as error:
            complain(f"  {receiver.name} FAILED to start: {error}\n{stage.log(receiver.name)}")
            failed += 1
            continue
        results = [attempt(trials[-1], check) for check in CHECKS]
        passed, failed = passed + results.count(True), failed + results.count(False)
    stage.command("client", "rotate-secret", stage.client["name"])
    say("after the client's secret was replaced:")
    for trial in trials:
        is_fine = attempt(trial, Trial.takes_what_two_secrets_signed)
        passed, failed = passed + is_fine, failed + (not is_fine)
    return passed, failed, skipped


def main():
    binary, node, *names = sys.argv[1:]
    known = receivers(node)
    if unknown := set(names) - {receiver.name for receiver in known}:
        sys.exit(f"there is no receiver {', '.join(unknown)}")
    chosen = [receiver for receiver in known if not names or receiver.name in names]
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(binary, pathlib.Path(folder))
        try:
            passed, failed, skipped = try_all(stage, chosen)
        finally:
            stage.close()
    say(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
