// A relay and a sandbox as processes, with clients: what is around those who use a relay.

import { execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const BINARY = new URL("../target/debug/basiq-relay", import.meta.url).pathname;

/** Waits until something is so. */
export async function until(what, isSo, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(200)) {
    const found = await isSo();
    if (found) return found;
  }
  throw new Error(`it did not come to be so in ${seconds} s: ${what}`);
}

/** Finds a port below those that the system gives out, so that no other program takes it meanwhile by chance. */
export async function freePort() {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer().listen(port, "127.0.0.1");
    try {
      await once(server, "listening");
    } catch (error) {
      if (error.code === "EADDRINUSE") continue;
      throw error;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}

export class Stage {
  #processes = [];
  #home = mkdtempSync(join(tmpdir(), "basiq-relay-stage-"));
  /** By name: `{name, apiKey, signingSecret}`. */
  clients = {};

  /** Starts both, with these clients and further settings of the relay. */
  async start(names, settings = {}) {
    const [basiq, relay] = [await freePort(), await freePort()];
    this.basiq = `http://127.0.0.1:${basiq}`;
    this.url = `http://127.0.0.1:${relay}`;
    this.environment = {
      PATH: process.env.PATH,
      RELAY_LISTEN: `127.0.0.1:${relay}`,
      RELAY_DATABASE_URL: `sqlite://${join(this.#home, "relay.db")}`,
      RELAY_BASIQ_URL: this.basiq,
      RELAY_BASIQ_API_KEY: "any",
      RELAY_CALLBACK_ALLOW_HTTP: "true",
      RELAY_CALLBACK_ALLOW_NETWORKS: "127.0.0.0/8",
      RELAY_LOG: "warn",
      ...settings,
    };
    for (const name of names) {
      const options = { env: this.environment, cwd: this.#home };
      const added = execFileSync(BINARY, ["client", "add", name, "--json"], options);
      this.clients[name] = JSON.parse(added);
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

  async post(base, path, key, body) {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const answer = await fetch(base + path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Connects a bank as one of Basiq's documented test users; answers the job and the person. */
  async connect(loginId, password, bank = "AU00000") {
    const user = await this.post(this.basiq, "/users", this.token, { email: `${loginId}@app.example` });
    const login = { loginId, password, institution: { id: bank } };
    const job = await this.post(this.basiq, `/users/${user.id}/connections`, this.token, login);
    return { job: job.id, user: user.id };
  }

  async stop() {
    for (const child of this.#processes.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    rmSync(this.#home, { recursive: true, force: true });
  }
}
