// Runs the compiled TypeScript client against a relay and a sandbox.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import test from "node:test";
import { promisify } from "node:util";

import { Stage } from "../stage.mjs";

const PROGRAM = new URL("typescript/build/register.js", import.meta.url).pathname;

test("a generated client registers a watch, is told what is wrong, and receives a typed event", async () => {
  assert.ok(existsSync(PROGRAM), "it was compiled");
  const stage = new Stage();
  try {
    await stage.start(["app"]);
    const { job } = await stage.connect("gavinBelson", "hooli2016");
    const { apiKey, signingSecret } = stage.clients.app;
    const settings = { RELAY_URL: stage.url, RELAY_KEY: apiKey, RELAY_SIGNING_SECRET: signingSecret, JOB: job };
    const options = { env: { PATH: process.env.PATH, ...settings }, timeout: 90_000 };
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM], options);
    assert.match(stdout, /^registered wch_\w+\ndone: \d+ resources\n$/);
  } finally {
    await stage.stop();
  }
});
