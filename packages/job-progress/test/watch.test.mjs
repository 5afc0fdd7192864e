// Follows watches of a relay that is played, with a clock that stands still.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { watchJob } from "../index.js";

const URL_1 = "https://relay.example/watch/wch_1/stream?expires=1&signature=a";
const URL_2 = "https://relay.example/watch/wch_1/stream?expires=2&signature=b";
const encode = (text) => new TextEncoder().encode(text);
const frame = (event, data, id) => `${id ? `id: ${id}\n` : ""}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
const PROGRESS = frame("progress", { steps: [{ title: "verify-credentials", status: "in-progress" }], state: "watching", estimatedSecondsLeft: 5 });
const SUCCESS = frame("job.success", { type: "job.success", sequence: 2, status: "success", action: "none", final: true }, "evt_2");
const ASKED = { type: "job.action-required", status: "action-required", action: "answer-mfa", final: false };

/** Lets all that is not waiting for the clock go on. */
const settle = async () => {
  for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setImmediate(resolve));
};

const pass = async (ms) => {
  mock.timers.tick(ms);
  await settle();
};

/** A `fetch` that answers each call as told: a status, an error, or a stream, which the test writes to. */
function relay(...answers) {
  const calls = [];
  const answer = async (url, { signal, headers }) => {
    const next = answers.length > 1 ? answers.shift() : answers[0];
    const call = { url: String(url), headers };
    calls.push(call);
    if (next instanceof Error) throw next;
    if (next === "silence") return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    if (typeof next !== "string") return new Response(next.status === 204 ? null : "<html>", next);
    const body = new ReadableStream({
      start(controller) {
        if (next) controller.enqueue(encode(next));
        call.write = (text) => controller.enqueue(encode(text));
        call.end = () => controller.close();
        signal.addEventListener("abort", () => {
          call.aborted = true;
          controller.error(signal.reason);
        });
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  return { calls, fetch: answer };
}

/** A watch whose changes are noted. */
function follow(options) {
  const told = [];
  const watch = watchJob(options);
  watch.addEventListener("change", ({ detail }) => told.push(...detail.changes));
  const types = () => told.map(({ type }) => type).join(" ");
  return { watch, told, types };
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());
// no test depends on chance: each wait is the longest there can be
beforeEach(() => mock.method(Math, "random", () => 1));

test("a stream is followed to its end, and then nothing is asked", async () => {
  const { calls, fetch } = relay(PROGRESS);
  const { watch, types, told } = follow({ streamUrl: URL_1, fetch });
  const single = [];
  watch.addEventListener("settled", ({ detail }) => single.push(detail.event.status));
  await settle();
  assert.equal(types(), "state step eta");
  assert.equal(watch.phase, "running");
  assert.equal(calls[0].headers.accept, "text/event-stream");
  calls[0].write(SUCCESS.slice(0, 20));
  await settle();
  calls[0].write(SUCCESS.slice(20) + frame("end", { state: "settled" }));
  const { event } = await watch.done;
  assert.equal(event.status, "success");
  assert.deepEqual(single, ["success"]);
  assert.equal(told.at(-1).type, "settled", "the end after it says nothing new");
  assert.ok(watch.closed && calls[0].aborted);
  await pass(600_000);
  assert.equal(calls.length, 1);
});

test("a stream that breaks is taken up after the last event, later after each failure", async () => {
  const delayed = frame("job.delayed", { sequence: 1, status: "delayed", final: false }, "evt_1");
  const progress = "retry: 2000\n" + frame("progress", { state: "delayed", steps: [] });
  const { calls, fetch } = relay(progress + delayed, new TypeError("fetch failed"), new TypeError("fetch failed"), progress);
  const { watch, types } = follow({ streamUrl: URL_1, fetch });
  await settle();
  calls[0].end();
  await settle();
  await pass(1999);
  assert.equal(calls.length, 1, "it waits for as long as the relay asked");
  await pass(1);
  assert.equal(calls[1].url, `${URL_1}&lastEventId=evt_1`);
  await pass(3999);
  assert.equal(calls.length, 2, "twice as long after a failure");
  assert.equal(types(), "state delayed connection");
  await pass(1);
  assert.equal(calls.length, 3);
  await pass(8000);
  assert.equal(calls.length, 4);
  assert.equal(types(), "state delayed connection connection", "lost and found once");
  assert.equal(watch.phase, "delayed");
  watch.close();
  await watch.done;
});

test("waits grow to half a minute and no further, and differ from page to page", async () => {
  const { calls, fetch } = relay(new TypeError("fetch failed"));
  const { watch } = follow({ streamUrl: URL_1, fetch });
  await settle();
  for (const wait of [2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    const before = calls.length;
    await pass(wait - 1);
    assert.equal(calls.length, before, `${wait}`);
    await pass(1);
    assert.equal(calls.length, before + 1, `${wait}`);
  }
  Math.random.mock.mockImplementation(() => 0);
  await pass(30_000);
  const before = calls.length;
  await pass(15_000);
  assert.equal(calls.length, before + 1);
  watch.close();
});

for (const status of [401, 404]) {
  test(`an address that answers ${status} is replaced`, async () => {
    const { calls, fetch } = relay({ status }, PROGRESS);
    const asked = [];
    const refresh = async (options) => {
      asked.push(options.signal instanceof AbortSignal);
      return URL_2;
    };
    const { watch } = follow({ streamUrl: URL_1, refresh, fetch });
    await settle();
    await pass(2000);
    assert.deepEqual(asked, [true]);
    assert.equal(calls[1].url, URL_2);
    watch.close();
  });
}

test("a network that fails twice may be an address that a page may not read", async () => {
  const { calls, fetch } = relay(new TypeError("CORS"), new TypeError("CORS"), PROGRESS);
  const { watch } = follow({ streamUrl: URL_1, refresh: () => ({ streamUrl: URL_2 }), fetch });
  await settle();
  await pass(2000);
  await pass(4000);
  assert.deepEqual(calls.map(({ url }) => url), [URL_1, URL_1, URL_2]);
  watch.close();
});

test("without `refresh` an address that is too old ends the watch; with null it is gone", async () => {
  for (const [options, code] of [
    [{ streamUrl: URL_1 }, "expired"],
    [{}, "expired"],
    [{ streamUrl: URL_1, refresh: async () => null }, "gone"],
  ]) {
    const { told, watch } = follow({ ...options, fetch: relay({ status: 401 }).fetch });
    await settle();
    await pass(2000);
    assert.deepEqual(told.at(-1), { type: "error", code, fatal: true });
    assert.ok(watch.closed);
  }
});

test("a backend that fails, answers nonsense or never answers is asked again", async () => {
  const odd = Object.assign(new Error("503"), { status: 401, retryAfter: "never" });
  const answers = [() => Promise.reject(odd), () => Promise.reject(), () => ({}), () => undefined, () => new Promise(() => {}), () => URL_2];
  const refresh = () => answers.shift()();
  const { calls, fetch } = relay(PROGRESS);
  const { watch, told } = follow({ refresh, fetch });
  await settle();
  for (const wait of [2000, 4000, 8000, 16_000, 20_000, 30_000]) await pass(wait);
  assert.equal(calls[0]?.url, URL_2);
  const errors = told.filter(({ type }) => type === "error");
  assert.deepEqual(errors.map(({ code, fatal }) => [code, fatal]), Array(5).fill(["refresh", false]));
  assert.equal(errors[0].cause, odd);
  watch.close();
});

test("a relay that is busy is asked no sooner than it says", async () => {
  const busy = { status: 429, headers: { "retry-after": "12" } };
  const { calls, fetch } = relay(busy, { status: 503, headers: { "retry-after": "86400" } }, PROGRESS);
  const { watch } = follow({ streamUrl: URL_1, fetch });
  await settle();
  await pass(11_999);
  assert.equal(calls.length, 1);
  await pass(1);
  assert.equal(calls.length, 2);
  await pass(30_000);
  assert.equal(calls.length, 3, "half a minute at most");
  watch.close();
});

test("204 says that all was told", async () => {
  const { fetch } = relay({ status: 204 });
  const { watch } = follow({ streamUrl: URL_1, fetch });
  await settle();
  assert.ok(watch.closed);
});

test("a page in place of a stream, a stream that says nothing and one that falls silent are given up", async () => {
  const page = { status: 200, headers: { "content-type": "text/html" } };
  const { calls, fetch } = relay(page, "silence", PROGRESS);
  const { watch, types } = follow({ streamUrl: URL_1, fetch });
  await settle();
  await pass(1999);
  assert.equal(calls.length, 1, "a failure, and no stream that ended");
  await pass(1);
  assert.equal(calls.length, 2);
  await pass(10_000);
  await pass(4000);
  assert.equal(calls.length, 3);
  assert.equal(types(), "connection connection state step eta");
  await pass(30_000);
  calls[2].write(":\n\n");
  await settle();
  await pass(44_999);
  assert.ok(!calls[2].aborted, "a comment is a sign of life");
  await pass(1);
  assert.ok(calls[2].aborted);
  await pass(2000);
  assert.equal(calls.length, 4);
  watch.close();
});

test("where streams do not get through, a watch is polled, and a stream is tried now and then", async () => {
  const { calls, fetch } = relay(new TypeError("no way"));
  let state = { state: "watching", steps: [{ title: "x", status: "in-progress" }], events: [], streamUrl: URL_2 };
  let polls = 0;
  const refresh = () => (polls++, state);
  const { watch, types, told } = follow({ streamUrl: URL_1, refresh, fetch, pollInterval: 3000 });
  await settle();
  for (const wait of [2000, 4000, 8000]) await pass(wait);
  const tried = calls.length;
  assert.equal(tried, 3);
  for (let n = 0; n < 7; n += 1) await pass(3000);
  assert.equal(calls.length, tried, "polled meanwhile");
  assert.equal(watch.phase, "running");
  assert.equal(told.filter(({ type }) => type === "connection").at(-1).connected, true, "what is polled is not lost");
  for (let n = 0; n < 12; n += 1) await pass(30_000);
  assert.equal(calls.length, tried + 1, "one round in twelve tries the stream");
  const before = polls;
  state = { ...state, state: "settled", events: [{ ...ASKED, sequence: 1 }, { sequence: 2, status: "failed", action: "retry", final: true }] };
  await pass(30_000);
  await pass(30_000);
  assert.ok(polls > before);
  assert.equal(watch.phase, "failed");
  assert.ok(types().endsWith("settled") && watch.closed);
});

test("of old questions that a stream repeats, only the open one is told", async () => {
  const first = frame("job.action-required", { ...ASKED, sequence: 1, challenge: { description: "old" } }, "evt_1");
  const second = frame("job.action-required", { ...ASKED, sequence: 2, challenge: { description: "new" } }, "evt_2");
  const { fetch } = relay(frame("progress", { state: "awaiting-user", steps: [] }) + first + second);
  const { watch, told } = follow({ streamUrl: URL_1, fetch });
  await settle();
  const asked = told.filter(({ type }) => type === "needs-user");
  assert.deepEqual(asked.map(({ event }) => event.challenge.description), ["new"]);
  watch.close();
});

test("garbage in a stream does not end it", async () => {
  const { calls, fetch } = relay("event: progress\ndata: {oops\n\nnoise\n\n" + PROGRESS);
  const { watch, types } = follow({ streamUrl: URL_1, fetch });
  await settle();
  assert.equal(types(), "error state step eta");
  calls[0].write("\ufffd\0:\n" + frame("job.success", [], "evt_9") + SUCCESS);
  await watch.done;
  assert.equal(watch.phase, "success");
});

test("a watch is a loop of changes, and ends with it", async () => {
  const { calls, fetch } = relay(PROGRESS);
  const watch = watchJob({ streamUrl: URL_1, fetch });
  const seen = [];
  const loop = (async () => {
    for await (const { type } of watch) seen.push(type);
  })();
  await settle();
  calls[0].write(SUCCESS);
  await loop;
  assert.deepEqual(seen, ["state", "step", "eta", "settled"]);
  const other = watchJob({ streamUrl: URL_1, fetch });
  for await (const { type } of other) if (type === "step") break;
  assert.ok(other.closed && calls[1].aborted);
});

test("a signal ends a watch at any time, and nothing is told after", async () => {
  const already = AbortSignal.abort();
  const { calls, fetch } = relay(PROGRESS);
  const early = follow({ streamUrl: URL_1, fetch, signal: already });
  await early.watch.done;
  assert.equal(calls.length, 0);
  for (const when of ["reading", "waiting", "asking"]) {
    const stop = new AbortController();
    const answer = when === "reading" ? PROGRESS : { status: 401 };
    let letGo;
    const refresh = () => new Promise((resolve) => (letGo = resolve));
    const { calls, fetch } = relay(answer);
    const { watch, told } = follow({ streamUrl: URL_1, fetch, refresh, signal: stop.signal });
    await settle();
    if (when === "asking") await pass(2000);
    stop.abort();
    const before = told.length;
    await watch.done;
    letGo?.(URL_2);
    await pass(600_000);
    assert.deepEqual([calls.length, told.length], [1, before], when);
  }
});

test("a listener that closes the watch hears no more", async () => {
  const { fetch } = relay(PROGRESS);
  const watch = watchJob({ streamUrl: URL_1, fetch });
  const heard = [];
  watch.addEventListener("state", () => watch.close());
  watch.addEventListener("step", () => heard.push("step"));
  watch.addEventListener("change", () => heard.push("change"));
  await settle();
  assert.deepEqual(heard, []);
});

test("the address may be relative to a base", async () => {
  const { calls, fetch } = relay(PROGRESS);
  const { watch } = follow({ streamUrl: "/watch/wch_1/stream?a=b", baseUrl: "https://relay.example/x/", fetch });
  await settle();
  assert.equal(calls[0].url, "https://relay.example/watch/wch_1/stream?a=b");
  watch.close();
});
