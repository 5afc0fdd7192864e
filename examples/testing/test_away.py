"""Tests the backend while Basiq does not work:

examples/testing/with-relay --fault 503 -- python3 -m unittest discover -s examples/testing -p test_away.py
"""

import json
import os
import unittest
import urllib.error
import urllib.request

from backend import Backend

PORT = int(os.environ.get("PORT", "3001"))


class AwayTest(unittest.TestCase):
    def test_a_person_is_told_that_the_bank_cannot_be_reached_now(self):
        backend = Backend(os.environ, PORT)
        self.addCleanup(backend.close)
        login = {"loginId": "gavinBelson", "password": "hooli2016", "institution": {"id": "AU00000"}}
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/banks", json.dumps(login).encode())
        self.assertEqual(refused.exception.code, 502)
        self.assertIn("cannot be reached", json.load(refused.exception)["error"])
