// The backend of the example. It holds the keys, starts jobs at Basiq and watches them at the relay; the page is
// given no more than the address of its own stream. Node 20 or newer, nothing to install.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

import { BANKS } from "./banks.mjs";
import { isSigned } from "./webhook.mjs";

const setting = (name, fallback) => process.env[name] ?? fallback ?? stop(`${name} is not set`);
const PORT = Number(setting("FRONTEND_PORT", "8092"));
const SELF = setting("FRONTEND_URL", `http://127.0.0.1:${PORT}`);
const RELAY = setting("FRONTEND_RELAY", "http://127.0.0.1:8080");
const RELAY_KEY = setting("FRONTEND_RELAY_KEY");
const RELAY_SECRET = setting("FRONTEND_RELAY_SECRET");
const BASIQ = setting("FRONTEND_BASIQ", "http://127.0.0.1:8090");
const BASIQ_KEY = setting("FRONTEND_BASIQ_KEY", "any");

const LARGEST_BODY = 64 * 1024;
const FILES = { "/": "index.html" };
for (const name of ["app.js", "texts.js", "view.js", "style.css", "icon.svg", "bank.html"]) FILES[`/${name}`] = name;
// In an app of yours, the package is installed, and a bundler or the server finds it.
for (const name of ["element", "index", "sse", "state", "style", "texts", "watch"]) {
  FILES[`/basiq-job-progress/${name}.js`] = `../../packages/job-progress/${name}.js`;
}
const KINDS = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
const HEADERS = {
  "content-security-policy":
    `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ${RELAY}; ` +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

// Where a real backend has a database: whose browser it is, and what it may follow.
const people = new Map(); // session: the person's id at Basiq
const watches = new Map(); // watch id: { session, userId, bank, locale, connectionId, event }
const owners = new Map(); // the person's id at Basiq: session
const notices = new Map(); // session: what its person has to know, the newest first
const seen = new Set(); // ids of webhooks that were taken

function stop(why) {
  console.error(why);
  process.exit(2);
}

/** What a call ends in that cannot be done; `code` is what the page goes by. */
class Refusal extends Error {
  constructor(status, code) {
    super(code);
    Object.assign(this, { status, code });
  }
}

async function call(url, headers, body) {
  const options = { headers, signal: AbortSignal.timeout(20_000) };
  if (body !== undefined) Object.assign(options, { method: "POST", body });
  const answer = await fetch(url, options).catch(() => {
    throw new Refusal(503, "out-of-reach");
  });
  const text = await answer.text();
  const json = text ? JSON.parse(text) : {};
  if (answer.ok) return json;
  // a problem of the relay is named by the last part of its type
  throw new Refusal(answer.status, json.type?.split("/").pop() ?? "failed");
}

const JSON_TYPE = { "content-type": "application/json" };

function relay(path, body) {
  const headers = { authorization: `Bearer ${RELAY_KEY}`, ...JSON_TYPE };
  return call(RELAY + path, headers, body && JSON.stringify(body));
}

let token = { until: 0 };

async function basiq(path, body) {
  if (Date.now() > token.until) {
    const headers = { authorization: `Basic ${BASIQ_KEY}`, "basiq-version": "3.0" };
    const issued = await call(`${BASIQ}/token`, headers, new URLSearchParams({ scope: "SERVER_ACCESS" }));
    token = { text: issued.access_token, until: Date.now() + 1000 * (issued.expires_in - 60) };
  }
  return call(BASIQ + path, { authorization: `Bearer ${token.text}`, ...JSON_TYPE }, JSON.stringify(body));
}

/** Watches a job of a person's bank, and answers what the page needs to follow it. */
async function watch(known, jobId, { operation, locale }) {
  const created = await relay("/watch", { jobId, callbackUrl: `${SELF}/hooks/bank`, operation, locale });
  // the same job watched again is the same watch
  if (!watches.has(created.id)) watches.set(created.id, { ...known, locale });
  return forPage(created, watches.get(created.id));
}

function forPage({ id, streamUrl, state, steps }, { bank, locale, event }) {
  // where streams do not get through, the page asks for these again and again
  const polled = { state, steps, events: event ? [event] : [] };
  // `now` is there for clocks of browsers that are wrong
  return { watchId: id, streamUrl: new URL(streamUrl, RELAY), ...polled, bank: bank.id, locale, now: Date.now() };
}

async function connect(session, { bank: id, locale }) {
  const bank = BANKS.find((bank) => bank.id === id) ?? refuse(422, "no-such-bank");
  if (!people.has(session)) {
    people.set(session, await addPerson(session, locale));
  }
  const userId = people.get(session);
  const login = { loginId: bank.loginId, password: bank.password, institution: { id: bank.institution } };
  const job = await basiq(`/users/${userId}/connections`, login);
  return watch({ session, userId, bank }, job.id, { operation: "create", locale });
}

/** Creates a person at Basiq, and subscribes to what happens to the person's connections later. */
async function addPerson(session, locale) {
  const { id: userId } = await basiq("/users", { email: `${session}@app.example` });
  await relay("/subscriptions", { userId, callbackUrl: `${SELF}/hooks/bank`, locale });
  owners.set(userId, session);
  return userId;
}

/** New credentials for a connection that is there; they go through to Basiq and are not kept. */
async function logInAgain(known, { loginId, password, locale }) {
  const job = await basiq(connectionOf(known), { loginId, password });
  return watch(known, job.id, { operation: "update", locale });
}

async function tryAgain(known, { locale }) {
  const job = await basiq(`${connectionOf(known)}/refresh`, {});
  return watch(known, job.id, { operation: "refresh", locale });
}

/** The webhook told which connection it is; it comes about when the page is told, so hardly ever later than a click. */
function connectionOf({ userId, connectionId }) {
  return `/users/${userId}/connections/${connectionId ?? refuse(409, "not-known-yet")}`;
}

const read = async (known, _, id) => forPage(await relay(`/watch/${id}`), known);
const answer = (_, { response }, id) => relay(`/watch/${id}/mfa`, { response });

function refuse(status, code) {
  throw new Refusal(status, code);
}

/** Takes an event of the relay once. Here a real backend acts, and tells people who have closed the page. */
function takeEvent(headers, body) {
  if (!isSigned(RELAY_SECRET, headers, body)) refuse(401, "bad-signature");
  const id = headers["webhook-id"];
  if (seen.has(id)) return;
  seen.add(id);
  const event = JSON.parse(body);
  if (event.type === "relay.test") return console.log(`relay.test: ${event.message}`);
  const { userId } = event.context;
  console.log(`${event.watchId ?? "notice"} ${event.type} ${event.errorCode ?? ""} -> ${event.action} (user ${userId})`);
  const known = watches.get(event.watchId);
  if (known) Object.assign(known, { event, connectionId: event.context.connectionId ?? known.connectionId });
  else if (event.status !== "success") keepNotice(id, event);
}

/** Keeps what a person has to know of a job that Basiq started by itself, or of a consent or a connection. */
function keepNotice(id, { context, userMessage }) {
  const session = owners.get(context.userId);
  const locale = [...watches.values()].find((known) => known.session === session)?.locale ?? "en";
  if (session) notices.set(session, [{ id, text: userMessage, locale }, ...(notices.get(session) ?? [])].slice(0, 5));
}

async function bodyOf(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > LARGEST_BODY) refuse(413, "too-large");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const CALLS = { "GET ": read, "POST mfa": answer, "POST login": logInAgain, "POST retry": tryAgain };

/** A call of the page; only what the same browser started can be reached by it. */
async function serveCall(request, session, path) {
  if (path === "notices") return notices.get(session) ?? [];
  if (path === "banks") return BANKS.map(({ id, name, hint }) => ({ id, name, hint }));
  const isPost = request.method === "POST";
  // a form of another site cannot send JSON, so it cannot act in a person's name
  if (isPost && request.headers["content-type"] !== "application/json") refuse(415, "not-json");
  const body = isPost ? JSON.parse(await bodyOf(request)) : {};
  if (isPost && path === "connections") return connect(session, body);
  const [, id, what = ""] = path.match(/^connections\/(wch_\w+)(?:\/(\w+))?$/) ?? refuse(404, "nothing-here");
  const known = watches.get(id);
  const act = CALLS[`${request.method} ${what}`];
  if (known?.session !== session || !act) refuse(404, "nothing-here");
  return act(known, body, id);
}

async function serve(request, response) {
  const { pathname } = new URL(request.url, SELF);
  let session = /(?:^|; )example_session=([\w-]{36})/.exec(request.headers.cookie)?.[1];
  if (pathname === "/hooks/bank" && request.method === "POST") {
    takeEvent(request.headers, await bodyOf(request));
    return response.writeHead(204).end();
  }
  if (pathname.startsWith("/api/")) {
    const answer = await serveCall(request, session ?? refuse(401, "no-session"), pathname.slice(5));
    return response.writeHead(200, { ...HEADERS, ...JSON_TYPE }).end(JSON.stringify(answer));
  }
  const name = FILES[pathname] ?? refuse(404, "nothing-here");
  const text = await readFile(new URL(`${name}`, import.meta.url));
  const headers = { ...HEADERS, "content-type": `${KINDS[name.split(".").pop()]}; charset=utf-8` };
  // over HTTPS, as it has to be outside of this machine, it is `Secure` as well
  if (!session) headers["set-cookie"] = `example_session=${randomUUID()}; Path=/; HttpOnly; SameSite=Strict`;
  response.writeHead(200, headers).end(text);
}

createServer((request, response) => {
  serve(request, response).catch((error) => {
    const { status = error instanceof SyntaxError ? 400 : 500, code = "failed" } = error;
    if (status === 500) console.error(error);
    if (!response.headersSent) response.writeHead(status, JSON_TYPE);
    response.end(JSON.stringify({ code }));
  });
}).listen(PORT, "127.0.0.1", () => console.log(`The example is on ${SELF}`));
