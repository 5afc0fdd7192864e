"""Tests the backend against the sandbox and a relay:

examples/testing/with-relay --fault outage=AU00003 -- \\
  python3 -m unittest discover -s examples/testing -p test_backend.py
"""

import json
import os
import time
import unittest
import urllib.error
import urllib.request

from backend import Backend

PORT = int(os.environ.get("PORT", "3001"))
SELF = f"http://127.0.0.1:{PORT}"

# The logins are in docs/SANDBOX.md.
LOGINS = [
    ("everything works", "gavinBelson", "hooli2016", "AU00000", "success", "none"),
    ("the password is wrong", "gavinBelson", "mistyped", "AU00000", "failed", "resubmit-credentials"),
    ("the account is locked", "bighead", "password", "AU00000", "failed", "resolve-at-bank"),
    ("the bank wants something first", "erlich", "aviato", "AU00000", "failed", "resolve-at-bank"),
    ("the bank cannot be reached", "jianYang", "nothotdog", "AU00000", "failed", "retry"),
    ("the bank is down for everybody", "gavinBelson", "hooli2016", "AU00003", "failed", "wait-for-bank"),
    ("the bank asks for a code", "jared", "django", "AU00002", "action-required", "answer-mfa"),
]


def ask(path, body=None):
    """Returns the status and the JSON of an answer."""
    request = urllib.request.Request(SELF + path, None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as refused:
        return refused.code, None


class BackendTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.backend = Backend(os.environ, PORT)
        cls.addClassCleanup(cls.backend.close)

    def connect(self, login, password, institution):
        """A person connects a bank; returns the job."""
        status, said = ask("/banks", {"loginId": login, "password": password, "institution": {"id": institution}})
        self.assertEqual(status, 202)
        return said["job"]

    def told(self, job, events=1):
        """Waits until the relay has told something new about a job."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            bank = ask(f"/banks/{job}")[1]
            if bank["events"] >= events:
                return bank
            time.sleep(0.05)
        self.fail(f"the relay told nothing about {job} in 20 s")

    def test_each_login_ends_as_it_has_to(self):
        for name, login, password, institution, status, action in LOGINS:
            with self.subTest(name):
                bank = self.told(self.connect(login, password, institution))
                self.assertEqual((bank["status"], bank["action"]), (status, action))
                self.assertTrue(bank["message"], "there is something to say to the person")

    def test_a_code_that_is_right_ends_well(self):
        job = self.connect("jared", "django", "AU00002")
        self.told(job)
        self.assertEqual(ask(f"/banks/{job}/answer", ["1234"])[0], 202)
        self.assertEqual(self.told(job, 2)["status"], "success")

    def test_a_webhook_that_nobody_signed_is_refused(self):
        self.assertEqual(ask("/hooks/bank", {"type": "job.success", "jobId": "j-1"})[0], 401)
