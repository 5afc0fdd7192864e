// A relay between a sandbox and receivers, with a watch in every state there is.

import { once } from "node:events";
import { createServer } from "node:http";

import { BINARY, Stage, freePort, until } from "../stage.mjs";

export { BINARY, freePort, until };

export const ADMIN_TOKEN = "operator-token-of-the-browser-test";

/** Text of a callback that would do harm if a page did not escape it. */
export const HOSTILE = `<script>document.title = "owned"</script><img src=x onerror=alert(1)>`;

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

export class Scenes extends Stage {
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
    this.good = await receiver("127.0.0.1", [204, ""]);
    this.wrong = await receiver("127.0.0.2", [404, HOSTILE]);
    this.down = await receiver("127.0.0.3", [503, "<h1>503 Service Unavailable</h1>"]);
    await this.start(["shop", "lender"], {
      RELAY_ADMIN_TOKEN: ADMIN_TOKEN,
      RELAY_DELIVERY_RETRY_SCHEDULE: "1s",
    });
  }

  watch(client, jobId, callbackUrl, more = {}) {
    return this.post(this.url, "/watch", this.clients[client].apiKey, { jobId, callbackUrl, ...more });
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
    const update = await this.post(this.basiq, path, this.token, unlucky);
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
    await super.stop();
    for (const receiver of [this.good, this.wrong, this.down]) receiver?.stop();
  }
}
