// Tests the backend while Basiq does not work:
//   examples/testing/with-relay --fault 503 -- node --test examples/testing/away.test.mjs

import assert from "node:assert/strict";
import test from "node:test";

import { start } from "./backend.mjs";

const PORT = Number(process.env.PORT ?? "3001");

test("a person is told that the bank cannot be reached now", async () => {
  const backend = start(process.env, PORT);
  try {
    const login = { loginId: "gavinBelson", password: "hooli2016", institution: { id: "AU00000" } };
    const answer = await fetch(`http://127.0.0.1:${PORT}/banks`, { method: "POST", body: JSON.stringify(login) });
    assert.equal(answer.status, 502);
    assert.match((await answer.json()).error, /cannot be reached/);
  } finally {
    backend.close();
  }
});
