import assert from "node:assert/strict";
import test from "node:test";

import { INITIAL, applyMessage, applyWatch, phaseOf } from "../index.js";

const progress = (state, steps = [], estimatedSecondsLeft = null) => ["progress", { steps, state, estimatedSecondsLeft }];
const step = (title, status) => ({ title, status });
let sequence = 0;
const event = (status, more = {}) => [`job.${status}`, { type: `job.${status}`, sequence: ++sequence, final: true, status, ...more }];
const asked = (more = {}) => event("action-required", { action: "answer-mfa", final: false, challenge: { inputs: ["Code"] }, ...more });
const end = (state) => ["end", { state }];

/** Plays messages; answers the phase and the types of all changes. */
function play(...messages) {
  const types = [];
  let snapshot = INITIAL;
  for (const [name, body] of messages) {
    const result = applyMessage(snapshot, { event: name, data: JSON.stringify(body) });
    snapshot = result.snapshot;
    types.push(...result.changes.map(({ type }) => type));
  }
  return { snapshot, phase: phaseOf(snapshot), types: types.join(" ") };
}

const done = [step("verify-credentials", "success"), step("mfa-challenge", "skipped")];

for (const [name, messages, phase, types] of [
  ["nothing yet", [], "connecting", ""],
  ["a job that begins", [progress("watching")], "running", "state"],
  ["a job that runs", [progress("watching", [step("verify-credentials", "in-progress")], 7)], "running", "state step eta"],
  ["a state of a newer relay", [progress("verifying")], "running", "state"],
  ["a question", [progress("awaiting-user"), asked()], "needs-user", "state needs-user"],
  ["a question of the past", [progress("watching"), asked()], "running", "state"],
  ["a question that was answered", [progress("awaiting-user"), asked(), progress("watching")], "running", "state needs-user state"],
  ["a delay", [progress("delayed"), event("delayed", { final: false, action: "wait" })], "delayed", "state delayed"],
  ["a bank that is down", [progress("delayed"), event("failed", { final: false, action: "wait-for-bank" })], "delayed", "state delayed"],
  ["a success", [progress("settled", done), event("success")], "success", "state step step settled"],
  ["a failure", [progress("settled"), event("failed")], "failed", "state settled"],
  ["the end after the final event", [event("failed"), end("settled")], "failed", "settled"],
  ["a watch that was cancelled", [progress("watching"), end("cancelled")], "ended", "state ended"],
  ["a success that the watch leaves out", [progress("settled", done), end("settled")], "success", "state step step ended"],
  ["a failure that it leaves out", [progress("settled", [step("x", "failed")]), end("settled")], "failed", "state step ended"],
  ["an end without steps", [progress("settled"), end("settled")], "ended", "state ended"],
  ["a status of a newer relay", [progress("watching"), event("partial", { final: false })], "running", "state event"],
  ["a final status of a newer relay", [event("partial")], "ended", "settled"],
  ["a notice", [["notice.consent-expiring", { type: "notice.consent-expiring", status: "action-required" }]], "connecting", "notice"],
  ["a message of a newer relay", [["weather", { sun: true }]], "connecting", ""],
]) {
  test(`${name}: ${phase}`, () => {
    const played = play(...messages);
    assert.equal(played.phase, phase);
    assert.equal(played.types, types);
  });
}

test("an event that is told again changes nothing", () => {
  const first = event("delayed", { final: false });
  const { snapshot, types } = play(progress("delayed"), first, first);
  assert.equal(types, "state delayed");
  assert.equal(snapshot.event.sequence, first[1].sequence);
});

test("a stream tells the question that a poll left out", () => {
  const [name, body] = asked();
  const polled = applyWatch(INITIAL, { state: "awaiting-user", events: [{ ...body, challenge: undefined }] }).snapshot;
  assert.equal(polled.event.challenge, null);
  const { snapshot, changes } = applyMessage(polled, { event: name, data: JSON.stringify(body) });
  assert.deepEqual([snapshot.event.challenge.inputs, changes.length], [["Code"], 1]);
  assert.deepEqual(applyMessage(snapshot, { event: name, data: JSON.stringify(body) }).changes, []);
});

test("garbage changes nothing and is told", () => {
  const { snapshot } = play(progress("watching", done, 3));
  for (const data of ["", "{", "null", "[]", '"progress"', "12", "\ufffd"]) {
    const result = applyMessage(snapshot, { event: "job.failed", data });
    assert.equal(result.snapshot, snapshot, data);
    assert.deepEqual(result.changes, [{ type: "error", code: "unreadable", fatal: false, name: "job.failed" }]);
  }
});

test("odd fields become what can be shown", () => {
  const odd = { steps: [null, 1, { title: {}, status: 7 }, { title: "x" }], state: 3, estimatedSecondsLeft: "soon" };
  const { snapshot } = play(["progress", odd], ["progress", { steps: "none", estimatedSecondsLeft: -1 }]);
  assert.deepEqual([snapshot.state, snapshot.steps, snapshot.secondsLeft], ["watching", [], null]);
  assert.deepEqual(play(["progress", odd]).snapshot.steps, [step("", "pending"), step("x", "pending")]);
  const told = { sequence: 9, status: 1, action: {}, userMessage: ["<b>"], final: "yes", retryAt: "later", challenge: { inputs: "x", expiresAt: 5 }, more: 1 };
  const { event } = play(["job.odd", { ...told, type: 5 }]).snapshot;
  const challenge = { description: "", inputs: [], expiresAt: null };
  assert.deepEqual(event, { sequence: 9, status: "unknown", action: "none", userMessage: null, final: false, retryAt: null, challenge, more: 1, type: 5 });
});

test("an answer of the API is taken as messages are", () => {
  const events = [{ ...asked()[1], challenge: undefined }, event("success", { userMessage: "Done." })[1], "odd"];
  const running = applyWatch(INITIAL, { state: "awaiting-user", steps: done, events: events.slice(0, 1) });
  assert.equal(phaseOf(running.snapshot), "needs-user");
  const { snapshot, changes } = applyWatch(running.snapshot, { state: "settled", steps: done, events });
  assert.equal(phaseOf(snapshot), "success");
  assert.deepEqual(changes.map(({ type }) => type), ["state", "settled"]);
  const cancelled = applyWatch(running.snapshot, { state: "cancelled" });
  assert.equal(phaseOf(cancelled.snapshot), "ended");
  assert.deepEqual(cancelled.snapshot.steps, running.snapshot.steps, "what is not told stays");
});
