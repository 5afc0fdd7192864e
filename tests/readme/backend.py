"""Runs a backend of README.md: it has to register a watch, to verify its callback, and to refuse what is not genuine."""

import base64
import hashlib
import hmac
import json
import os
import signal
import time
import urllib.error
import urllib.request

from place import fail, wait_for

HOOK = "http://127.0.0.1:3001/hooks/bank"


def try_backend(place, relay, text):
    """Starts it by its snippet, waits for the callback, and ends it."""
    log = place.root / f"{len(place.sessions)}.out"
    with log.open("w") as output:
        process = place.shell.start(text, output)
    wait_for(lambda: "registered: 202" in log.read_text(), f"the watch of {text}")
    wait_for(lambda: "verified: " in log.read_text(), f"the callback of {text}")
    if "success" not in log.read_text():
        fail(f"another event than expected: {log.read_text()}")
    watch = latest_watch(relay, place.shell.value("BASIQ_RELAY_KEY"))
    if watch["callbackUrl"] != HOOK:
        fail(f"the latest watch is another's: {watch}")
    # the relay notes an answer when it has it, which is after the backend gave it
    wait_for(lambda: is_accepted(relay, place, watch["id"]), "the callback's 204 at the relay")
    refuses_what_is_not_genuine(place.shell.value("BASIQ_RELAY_SIGNING_SECRET"))
    if log.read_text().count("verified: ") != 2:
        fail(f"one callback and one of the test's were genuine: {log.read_text()}")
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=10)


def ask(relay, key, path):
    request = urllib.request.Request(relay + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def latest_watch(relay, key):
    return ask(relay, key, "/watch?limit=1")["items"][0]


def is_accepted(relay, place, watch):
    story = ask(relay, place.shell.value("BASIQ_RELAY_KEY"), f"/watch/{watch}")
    deliveries = [delivery for event in story["events"] for delivery in event["deliveries"]]
    return [attempt["status"] for one in deliveries for attempt in one["attempts"]] == [204]


def refuses_what_is_not_genuine(secret):
    """Posts events signed by this file's own hand: one that is right, and wrong ones."""
    body = json.dumps({"status": "success", "action": "none", "userMessage": "Zoë"})
    now = int(time.time())
    right = sign(secret, "evt_1", now, body)
    other = "whsec_" + base64.b64encode(b"another secret of 32 random bytes").decode()
    tries = {
        "right": (204, right, body),
        "tampered": (401, right, body.replace("success", "failed")),
        "another secret": (401, sign(other, "evt_1", now, body), body),
        "another id": (401, {**right, "webhook-id": "evt_2"}, body),
        "too old": (401, sign(secret, "evt_1", now - 600, body), body),
        "no signature": (401, {}, body),
        "garbage": (401, {**right, "webhook-signature": "garbage"}, body),
        "odd base64": (401, {**right, "webhook-signature": "v1,a"}, body),
        "nothing": (401, right, ""),
    }
    for name, (expected, headers, sent) in tries.items():
        answered = post(headers, sent)
        if answered != expected:
            fail(f"{name}: answered {answered}, not {expected}")


def sign(secret, event, at, body):
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{event}.{at}.{body}".encode(), hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return {"webhook-id": event, "webhook-timestamp": str(at), "webhook-signature": signature}


def post(headers, body):
    headers = {**headers, "content-type": "application/json"}
    request = urllib.request.Request(HOOK, body.encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
