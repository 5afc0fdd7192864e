// A small backend that connects banks: what docs/TESTING.md tests. Node 20 or newer, nothing to install.

import { createServer } from "node:http";

import { isSigned } from "../frontend/webhook.mjs";

/** Basiq or the relay did not do what it was asked. */
class Away extends Error {}

async function call(url, headers, body) {
  const options = { method: "POST", headers, body, signal: AbortSignal.timeout(5_000) };
  const answer = await fetch(url, options).catch((error) => {
    throw new Away(`${url}: ${error.message}`);
  });
  const text = await answer.text();
  if (!answer.ok) throw new Away(`${url}: ${answer.status}`);
  return text ? JSON.parse(text) : {};
}

/** Starts the backend; `settings` are the variables that `with-relay` sets. */
export function start(settings, port) {
  const banks = new Map(); // by job: what a real backend has in a table
  const seen = new Set(); // ids of webhooks; see examples/receivers for a table of them
  const self = `http://127.0.0.1:${port}`;
  const json = { "content-type": "application/json" };
  const asClient = { authorization: `Bearer ${settings.BASIQ_RELAY_KEY}`, ...json };

  async function connect(login) {
    const basic = { authorization: "Basic any", "basiq-version": "3.0" };
    const token = await call(`${settings.BASIQ_URL}/token`, basic, new URLSearchParams({ scope: "SERVER_ACCESS" }));
    const asServer = { authorization: `Bearer ${token.access_token}`, ...json };
    const user = await call(`${settings.BASIQ_URL}/users`, asServer, JSON.stringify({ email: "person@example.com" }));
    const job = await call(`${settings.BASIQ_URL}/users/${user.id}/connections`, asServer, JSON.stringify(login));
    const request = JSON.stringify({ jobId: job.id, callbackUrl: `${self}/hooks/bank` });
    banks.set(job.id, { status: "working", action: "none", events: 0 });
    const watch = await call(`${settings.BASIQ_RELAY_URL}/watch`, asClient, request);
    banks.get(job.id).watch = watch.id; // the event may have come already
    return { job: job.id };
  }

  async function answer(job, response) {
    const request = JSON.stringify({ response });
    await call(`${settings.BASIQ_RELAY_URL}/watch/${banks.get(job).watch}/mfa`, asClient, request);
    return {};
  }

  function take(id, event) {
    if (seen.has(id)) return;
    seen.add(id);
    const bank = banks.get(event.jobId);
    if (!bank) return; // a notice, or a type that is not known here
    const { status, action, userMessage: message } = event;
    Object.assign(bank, { status, action, message, events: bank.events + 1 });
  }

  async function handle(request, path, body) {
    const [, collection, job, part] = path.split("/");
    if (path === "/hooks/bank") {
      if (!isSigned(settings.BASIQ_RELAY_SIGNING_SECRET, request.headers, body)) return [401, {}];
      take(request.headers["webhook-id"], JSON.parse(body));
      return [204];
    }
    if (collection !== "banks") return [404, {}];
    if (request.method === "POST" && !job) return [202, await connect(JSON.parse(body))];
    if (!banks.has(job)) return [404, {}];
    if (request.method === "POST" && part === "answer") return [202, await answer(job, JSON.parse(body))];
    return [200, banks.get(job)];
  }

  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const [status, said] = await handle(request, request.url, Buffer.concat(chunks)).catch((error) =>
      error instanceof Away ? [502, { error: "the bank cannot be reached now" }] : [500, { error: error.message }],
    );
    response.writeHead(status, json).end(said && JSON.stringify(said));
  });
  server.listen(port, "127.0.0.1");
  return server;
}
