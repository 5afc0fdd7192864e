// Follows a watch at the relay, whatever becomes of the connection to it.

const EVENTS = ["job.success", "job.failed", "job.action-required", "job.delayed"];
/** How long a stream may be away before it is worth a word, in milliseconds. */
const PATIENCE = 2500;
const LONGEST_WAIT = 15_000;

/** A call to the page's own backend; an error has the `code` that it answered. */
export async function call(method, path, body) {
  const options = { method, headers: body && { "content-type": "application/json" }, body: body && JSON.stringify(body) };
  const answer = await fetch(`/api/${path}`, options).catch(() => undefined);
  const json = await answer?.json().catch(() => ({}));
  if (answer?.ok) return json;
  throw Object.assign(new Error(`${method} ${path}`), { status: answer?.status ?? 0, code: json?.code });
}

/**
 * A watch that is followed. `tell` has a function for each thing that can be told: `progress`, `event`, `end`, `lost`,
 * `found`, and `gone` if the backend knows no such watch.
 */
export class WatchStream {
  #id;
  #tell;
  #source;
  #lastEventId = "";
  #timers = [];
  #fails = 0;
  #isOver = false;

  constructor(id, tell) {
    this.#id = id;
    this.#tell = tell;
  }

  /** Opens the stream at an address of the backend's; without one, asks for it. */
  async open(known) {
    try {
      const { streamUrl } = known ?? (await call("GET", `connections/${this.#id}`));
      if (!this.#isOver) this.#listen(new URL(streamUrl));
    } catch (error) {
      if (this.#isOver) return;
      if (error.status === 404 || error.status === 401) return this.#finish("gone");
      this.#later();
    }
  }

  /** Nothing is told any more. */
  close() {
    this.#isOver = true;
    this.#source?.close();
    this.#rest();
  }

  #listen(url) {
    // a new EventSource knows nothing of what the one before has seen
    if (this.#lastEventId) url.searchParams.set("lastEventId", this.#lastEventId);
    const source = (this.#source = new EventSource(url));
    source.addEventListener("open", () => this.#isBack());
    source.addEventListener("error", () => this.#broke());
    source.addEventListener("progress", ({ data }) => this.#tell.progress(JSON.parse(data)));
    for (const name of EVENTS) source.addEventListener(name, (event) => this.#heard(event));
    source.addEventListener("end", ({ data }) => this.#finish("end", JSON.parse(data)));
  }

  #heard({ lastEventId, data }) {
    const event = JSON.parse(data);
    this.#lastEventId = lastEventId;
    this.#tell.event(event);
    if (event.final) this.close();
  }

  #finish(what, data) {
    if (this.#isOver) return;
    this.close();
    this.#tell[what](data);
  }

  #isBack() {
    this.#fails = 0;
    this.#rest();
    this.#tell.found();
  }

  #broke() {
    if (this.#isOver) return;
    // otherwise the browser comes back by itself
    if (this.#source.readyState === EventSource.CLOSED) this.#later();
    else this.#after(PATIENCE, () => this.#tell.lost());
  }

  /** Asks for another address: the one before may have run out. */
  #later() {
    this.#source?.close();
    this.#after(PATIENCE, () => this.#tell.lost());
    const wait = Math.min(500 * 2 ** this.#fails, LONGEST_WAIT);
    this.#fails += 1;
    this.#after(wait, () => this.open());
  }

  #after(wait, act) {
    this.#timers.push(setTimeout(act, wait));
  }

  #rest() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
  }
}
