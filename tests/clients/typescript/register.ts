// Registers a watch, reads it, is told what is wrong, and receives an event, all by types that were
// generated from the relay's OpenAPI document.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";

import type { components, paths } from "./generated/relay.js";
import { Receiver, told } from "./receiver.js";

type Problem = components["schemas"]["Problem"];
type WatchRequest = components["schemas"]["WatchRequest"];

// @ts-expect-error: what is required may not be left out
export const incomplete: WatchRequest = { jobId: "248b2883" };
// @ts-expect-error: a word that the relay does not know
export const unknown: WatchRequest["events"] = ["finished"];

function setting(name: string): string {
  const value = process.env[name];
  assert.ok(value, `${name} is set`);
  return value;
}

function client(key: string) {
  const headers = { authorization: `Bearer ${key}` };
  return createClient<paths>({ baseUrl: setting("RELAY_URL"), headers });
}

/** What a caller may do about a problem: one that the document does not know does not compile. */
function advice(problem: Problem): string {
  switch (problem.type) {
    case "/problems/unauthorized":
      return "look at the key";
    case "/problems/invalid-field":
      return (problem.errors ?? []).map(({ pointer, code }) => `${pointer}: ${code}`).join(", ");
    default:
      return problem.detail;
  }
}

const receiver = new Receiver(setting("RELAY_SIGNING_SECRET"));
const callbackUrl = await receiver.listen();
const relay = client(setting("RELAY_KEY"));
const body: WatchRequest = { jobId: setting("JOB"), callbackUrl, metadata: { order: 7 } };

const registered = await relay.POST("/watch", { body });
assert.equal(registered.response.status, 202);
assert.ok(registered.data, "a watch is answered");
assert.equal(registered.data.state, "watching");
const watchId: string = registered.data.id;
console.log(`registered ${watchId}`);

const again = await relay.POST("/watch", { body });
assert.equal(again.response.status, 200);
assert.equal(again.data?.id, watchId);

const read = await relay.GET("/watch/{watchId}", { params: { path: { watchId } } });
assert.equal(read.data?.jobId, body.jobId);
assert.deepEqual(read.data?.metadata, { order: 7 });

const refused = await client("brk_wrong").GET("/watch/{watchId}", { params: { path: { watchId } } });
assert.ok(refused.error, "a wrong key is refused");
assert.equal(refused.error.status, 401);
assert.equal(advice(refused.error), "look at the key");

const wrong = await relay.POST("/watch", { body: { ...body, callbackUrl: "app.example" } });
assert.ok(wrong.error, "what is no address is refused");
assert.equal(advice(wrong.error), "/callbackUrl: invalid-value");

const event = await receiver.first();
assert.ok(event.type === "job.success", event.type);
assert.equal(event.watchId, watchId);
assert.equal(event.sequence, 1);
assert.deepEqual(event.metadata, { order: 7 });
console.log(told(event));
receiver.close();
