// Tests the backend against the sandbox and a relay:
//   examples/testing/with-relay --fault outage=AU00003 -- node --test examples/testing/backend.test.mjs

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { start } from "./backend.mjs";

const PORT = Number(process.env.PORT ?? "3001");
const SELF = `http://127.0.0.1:${PORT}`;

let backend;
before(() => (backend = start(process.env, PORT)));
after(() => backend.close());

async function post(path, body) {
  return fetch(SELF + path, { method: "POST", body: JSON.stringify(body) });
}

/** A person connects a bank; returns the job. */
async function connect(loginId, password, institution) {
  const answer = await post("/banks", { loginId, password, institution: { id: institution } });
  assert.equal(answer.status, 202);
  return (await answer.json()).job;
}

/** Waits until the relay has told something new about a job. */
async function told(job, events = 1) {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(50)) {
    const bank = await (await fetch(`${SELF}/banks/${job}`)).json();
    if (bank.events >= events) return bank;
  }
  throw new Error(`the relay told nothing about ${job} in 20 s`);
}

// The logins are in docs/SANDBOX.md.
const LOGINS = [
  ["everything works", "gavinBelson", "hooli2016", "AU00000", "success", "none"],
  ["the password is wrong", "gavinBelson", "mistyped", "AU00000", "failed", "resubmit-credentials"],
  ["the account is locked", "bighead", "password", "AU00000", "failed", "resolve-at-bank"],
  ["the bank wants something first", "erlich", "aviato", "AU00000", "failed", "resolve-at-bank"],
  ["the bank cannot be reached", "jianYang", "nothotdog", "AU00000", "failed", "retry"],
  ["the bank is down for everybody", "gavinBelson", "hooli2016", "AU00003", "failed", "wait-for-bank"],
  ["the bank asks for a code", "jared", "django", "AU00002", "action-required", "answer-mfa"],
];

for (const [name, login, password, institution, status, action] of LOGINS) {
  test(name, async () => {
    const bank = await told(await connect(login, password, institution));
    assert.deepEqual([bank.status, bank.action], [status, action]);
    assert.ok(bank.message, "there is something to say to the person");
  });
}

test("a code that is right ends well", async () => {
  const job = await connect("jared", "django", "AU00002");
  await told(job);
  assert.equal((await post(`/banks/${job}/answer`, ["1234"])).status, 202);
  assert.equal((await told(job, 2)).status, "success");
});

test("a webhook that nobody signed is refused", async () => {
  assert.equal((await post("/hooks/bank", { type: "job.success", jobId: "j-1" })).status, 401);
});
