// The example as people run it: a sandbox, a relay, and the example's own backend.

import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { BINARY, freePort, until } from "./scenes.mjs";

export const FOLDER = new URL("../../examples/frontend/", import.meta.url).pathname;

const answers = async (url) => (await fetch(url).catch(() => undefined))?.ok;

export class Example {
  /** What the backend printed: a line for each webhook. */
  printed = "";
  #home = mkdtempSync(join(tmpdir(), "basiq-relay-example-"));
  #processes = new Set();
  #relayProcess;

  static async start() {
    const example = new Example();
    try {
      await example.#start();
    } catch (error) {
      await example.stop();
      throw error;
    }
    return example;
  }

  async #start() {
    const [basiq, relay, own] = [await freePort(), await freePort(), await freePort()];
    this.url = `http://127.0.0.1:${own}`;
    this.relay = `http://127.0.0.1:${relay}`;
    this.environment = {
      PATH: process.env.PATH,
      RELAY_LISTEN: `127.0.0.1:${relay}`,
      RELAY_DATABASE_URL: `sqlite://${join(this.#home, "relay.db")}`,
      RELAY_BASIQ_URL: `http://127.0.0.1:${basiq}`,
      RELAY_BASIQ_API_KEY: "any",
      RELAY_CALLBACK_ALLOW_HTTP: "true",
      RELAY_CALLBACK_ALLOW_NETWORKS: "127.0.0.0/8",
      RELAY_ALLOW_ORIGINS: this.url,
      RELAY_BANK_RETRY_AFTER: "4s",
      RELAY_LOG: "warn",
      RELAY_BASIQ_WEBHOOK_SECRET: `whsec_${randomBytes(24).toString("base64")}`,
    };
    const options = { env: this.environment, cwd: this.#home };
    const client = JSON.parse(execFileSync(BINARY, ["client", "add", "frontend", "--json"], options));
    this.secret = client.signingSecret;
    this.basiq = `http://127.0.0.1:${basiq}`;
    const webhook = ["--webhook-url", `${this.relay}/basiq/webhook`];
    webhook.push("--webhook-secret", this.environment.RELAY_BASIQ_WEBHOOK_SECRET);
    const sandbox = ["sandbox", "--listen", `127.0.0.1:${basiq}`, "--speed", "2", "--fault", "outage=AU00003"];
    this.#spawn(BINARY, [...sandbox, ...webhook]);
    await this.startRelay();
    const server = this.#spawn(process.execPath, [join(FOLDER, "server.mjs")], {
      FRONTEND_PORT: own,
      FRONTEND_RELAY: this.relay,
      FRONTEND_RELAY_KEY: client.apiKey,
      FRONTEND_RELAY_SECRET: client.signingSecret,
      FRONTEND_BASIQ: `http://127.0.0.1:${basiq}`,
    });
    server.stdout.on("data", (text) => (this.printed += text));
    await until("the example answers", () => answers(this.url));
  }

  #spawn(program, args, more) {
    const env = { ...this.environment, ...more };
    const child = spawn(program, args, { env, cwd: this.#home, stdio: ["ignore", more ? "pipe" : "ignore", "inherit"] });
    this.#processes.add(child);
    return child;
  }

  async startRelay() {
    this.#relayProcess = this.#spawn(BINARY, ["serve"]);
    await until("the relay is ready", () => answers(`${this.relay}/readyz`));
  }

  stopRelay() {
    return this.#end(this.#relayProcess);
  }

  async #end(child) {
    this.#processes.delete(child);
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }

  async stop() {
    for (const child of [...this.#processes].reverse()) await this.#end(child);
    rmSync(this.#home, { recursive: true, force: true });
  }
}
