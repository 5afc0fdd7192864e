// A relay between a sandbox and receivers, with a watch in every state there is.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const BINARY = new URL("../../target/debug/basiq-relay", import.meta.url).pathname;

export const ADMIN_TOKEN = "operator-token-of-the-browser-test";

/** Text of a callback that would do harm if a page did not escape it. */
export const HOSTILE = `<script>document.title = "owned"</script><img src=x onerror=alert(1)>`;

/** Waits until something is so. */
export async function until(what, isSo, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(200)) {
    const found = await isSo();
    if (found) return found;
  }
  throw new Error(`it did not come to be so in ${seconds} s: ${what}`);
}

export async function freePort(host = "127.0.0.1") {
  const server = createServer().listen(0, host);
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A receiver on an address of its own that answers as it is told. */
async function receiver(host, answer) {
  const receiver = { answer, events: [] };
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    receiver.events.push(JSON.parse(body));
    const [status, text] = receiver.answer;
    response.writeHead(status, { "content-type": "text/html" }).end(text);
  }).listen(0, host);
  await once(server, "listening");
  receiver.url = `http://${host}:${server.address().port}/hooks/bank`;
  receiver.stop = () => server.close();
  return receiver;
}

export class Scenes {
  #processes = [];
  #home = mkdtempSync(join(tmpdir(), "basiq-relay-browser-"));

  static async set() {
    const scenes = new Scenes();
    try {
      await scenes.#start();
      await scenes.#play();
    } catch (error) {
      await scenes.stop();
      throw error;
    }
    return scenes;
  }

  async #start() {
    const [basiq, relay] = [await freePort(), await freePort()];
    this.basiq = `http://127.0.0.1:${basiq}`;
    this.url = `http://127.0.0.1:${relay}`;
    this.good = await receiver("127.0.0.1", [204, ""]);
    this.wrong = await receiver("127.0.0.2", [404, HOSTILE]);
    this.down = await receiver("127.0.0.3", [503, "<h1>503 Service Unavailable</h1>"]);
    this.environment = {
      PATH: process.env.PATH,
      RELAY_LISTEN: `127.0.0.1:${relay}`,
      RELAY_DATABASE_URL: `sqlite://${join(this.#home, "relay.db")}`,
      RELAY_BASIQ_URL: this.basiq,
      RELAY_BASIQ_API_KEY: "any",
      RELAY_ADMIN_TOKEN: ADMIN_TOKEN,
      RELAY_CALLBACK_ALLOW_HTTP: "true",
      RELAY_CALLBACK_ALLOW_NETWORKS: "127.0.0.0/8",
      RELAY_DELIVERY_RETRY_SCHEDULE: "1s",
      RELAY_LOG: "warn",
    };
    this.keys = {};
    for (const name of ["shop", "lender"]) {
      const options = { env: this.environment, cwd: this.#home };
      const added = JSON.parse(execFileSync(BINARY, ["client", "add", name, "--json"], options));
      this.keys[name] = added.apiKey;
    }
    this.#spawn(["sandbox", "--listen", `127.0.0.1:${basiq}`, "--speed", "3"]);
    this.#spawn(["serve"]);
    await until("the relay is ready", async () => {
      const ready = await fetch(`${this.url}/readyz`).catch(() => undefined);
      return ready?.ok;
    });
    const form = new URLSearchParams({ scope: "SERVER_ACCESS" });
    const headers = { authorization: "Basic any", "basiq-version": "3.0" };
    const token = await fetch(`${this.basiq}/token`, { method: "POST", headers, body: form });
    this.token = (await token.json()).access_token;
  }

  #spawn(args) {
    const options = { env: this.environment, cwd: this.#home, stdio: ["ignore", "ignore", "inherit"] };
    this.#processes.push(spawn(BINARY, args, options));
  }

  async #post(base, path, key, body) {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const answer = await fetch(base + path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Connects a bank as one of Basiq's documented test users; answers the job and the person. */
  async connect(loginId, password, bank = "AU00000") {
    const user = await this.#post(this.basiq, "/users", this.token, { email: `${loginId}@app.example` });
    const login = { loginId, password, institution: { id: bank } };
    const job = await this.#post(this.basiq, `/users/${user.id}/connections`, this.token, login);
    return { job: job.id, user: user.id };
  }

  watch(client, jobId, callbackUrl, more = {}) {
    return this.#post(this.url, "/watch", this.keys[client], { jobId, callbackUrl, ...more });
  }

  /** What the operator's API lists. */
  async admin(path) {
    const headers = { authorization: `Bearer ${ADMIN_TOKEN}` };
    return (await (await fetch(`${this.url}/admin${path}`, { headers })).json()).items;
  }

  async #play() {
    const { job, user } = await this.connect("gavinBelson", "hooli2016");
    const settled = await this.watch("shop", job, this.good.url);
    const metadata = { note: HOSTILE };
    const locked = await this.connect("bighead", "password");
    this.dead = await this.watch("lender", locked.job, this.wrong.url, { metadata });
    for (let n = 0; n < 8; n += 1) {
      const connected = await this.connect("erlich", "aviato");
      await this.watch("shop", connected.job, this.down.url);
    }
    const event = await until("the first job is done", () => this.good.events[0]);
    this.settled = settled;
    this.context = event.context;
    const unlucky = { loginId: "jianYang", password: "nothotdog" };
    const path = `/users/${user}/connections/${event.context.connectionId}`;
    const update = await this.#post(this.basiq, path, this.token, unlucky);
    this.delayed = await this.watch("shop", update.id, this.good.url, { operation: "update" });
    await until("a delivery is dead", async () => (await this.admin("/deliveries")).length > 1);
    await until("one is delayed", async () => (await this.admin("/watches?state=delayed")).length);
  }

  /** A watch of a job that asks the person, from now on for half a minute. */
  async asking() {
    const { job } = await this.connect("richard", "tabsnotspaces", "AU00002");
    const watch = await this.watch("lender", job, this.good.url);
    const asks = async () => (await this.admin(`/watches?jobId=${job}`))[0].state === "awaiting-user";
    await until("the bank asks", asks);
    return watch;
  }

  async stop() {
    for (const child of this.#processes.reverse()) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    for (const receiver of [this.good, this.wrong, this.down]) receiver?.stop();
    rmSync(this.#home, { recursive: true, force: true });
  }
}
