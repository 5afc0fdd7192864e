// Follows a watch: reads its stream, reconnects when that breaks, and asks the backend for another address.

import { EventParser } from "./sse.js";
import { INITIAL, applyMessage, applyWatch, phaseOf } from "./state.js";

const LONGEST_WAIT = 30_000;
/** How long a stream may be away before it counts as lost. */
const PATIENCE = 4500;
/** How long the first byte may take. The relay sends it at once; a proxy may hold it back. */
const FIRST_BYTE = 10_000;
/** How long a stream may be silent. The relay sends a comment every 15 seconds. */
const SILENCE = 45_000;
const REFRESH_LIMIT = 20_000;
/** After so many failures in a row a watch is polled, if `refresh` also answers its state. */
const ENOUGH_FAILURES = 3;
/** One poll in so many tries the stream again. */
const POLLS = 12;

/** Keeps the last change of each kind: a stream repeats old questions when it begins. */
function latest(changes) {
  const kept = new Map();
  for (const change of changes) {
    const isOnce = change.type === "notice" || change.type === "error";
    const key = isOnce ? change : `${change.type} ${change.index}`;
    kept.delete(key);
    kept.set(key, change);
  }
  return kept.values();
}

/** Follows a job until it has ended. Each change is an event of its type; `change` follows them. */
export class JobWatch extends EventTarget {
  #options;
  #snapshot = INITIAL;
  #over = new AbortController();
  #queues = new Set();
  #lastEventId = "";
  #retry = 1000;
  #fails = 0;
  #isPollable = false;
  #isLost = false;
  #lostTimer;
  #attempt;
  #limitTimer;
  #wake;
  #finish;
  /** Resolves to the last snapshot when nothing more will come. Never rejects. */
  done = new Promise((resolve) => (this.#finish = resolve));

  constructor(options) {
    super();
    this.#options = options;
    const whileOpen = { signal: this.#over.signal };
    options.signal?.addEventListener("abort", () => this.close(), whileOpen);
    globalThis.addEventListener?.("online", () => this.#wake?.(), whileOpen);
    // listeners that are added right away miss nothing
    queueMicrotask(() => (options.signal?.aborted ? this.close() : this.#run()));
  }

  get snapshot() {
    return this.#snapshot;
  }

  get phase() {
    return phaseOf(this.#snapshot);
  }

  get closed() {
    return this.#over.signal.aborted;
  }

  /** Ends the watch: nothing is told after this. */
  close() {
    if (this.closed) return;
    this.#over.abort();
    this.#attempt?.abort();
    clearTimeout(this.#limitTimer);
    clearTimeout(this.#lostTimer);
    this.#wake?.();
    for (const queue of this.#queues) queue.wake?.();
    this.#finish(this.#snapshot);
  }

  /** Yields each change. Leaving the loop closes the watch. */
  async *[Symbol.asyncIterator]() {
    const queue = { changes: [] };
    this.#queues.add(queue);
    try {
      for (;;) {
        while (queue.changes.length) yield queue.changes.shift();
        if (this.closed) return;
        await new Promise((resolve) => (queue.wake = resolve));
      }
    } finally {
      this.#queues.delete(queue);
      this.close();
    }
  }

  async #run() {
    const options = this.#options;
    let url = options.streamUrl;
    for (let round = 1; !this.closed; round += 1) {
      let wait;
      try {
        url ||= await this.#refresh();
        const isPolled = this.#isPollable && this.#fails >= ENOUGH_FAILURES && round % POLLS > 0;
        if (url && !isPolled) {
          await this.#read(url);
          this.#break();
        } else {
          this.#restore();
          wait = options.pollInterval ?? 5000;
          url = undefined;
        }
      } catch (error) {
        this.#fails += 1;
        wait = error?.retryAfter;
        const isRefused = [401, 403, 404, 410].includes(error?.status);
        if (isRefused && !options.refresh) this.#fail("expired");
        // what a page may not read looks like a network that fails: then, too, the address may be too old
        if ((isRefused || this.#fails > 1) && options.refresh) url = undefined;
        this.#break();
      }
      this.#attempt?.abort();
      if (!this.closed) await this.#sleep(wait || this.#backOff());
    }
  }

  /** Begins a call that is given up after a time, or when the watch is closed. */
  #begin(limit) {
    this.#attempt = new AbortController();
    this.#limit(limit);
    return this.#attempt.signal;
  }

  #limit(limit) {
    clearTimeout(this.#limitTimer);
    this.#limitTimer = setTimeout(() => this.#attempt.abort(new Error("no answer in time")), limit);
  }

  /** Asks the backend for another address. It may also answer the state of the watch, or null if there is none. */
  async #refresh() {
    const { refresh } = this.#options;
    if (!refresh) return this.#fail("expired");
    try {
      const signal = this.#begin(REFRESH_LIMIT);
      const late = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      const answer = await Promise.race([refresh({ signal }), late]);
      if (answer === null) return this.#fail("gone");
      if (typeof answer === "string" || answer instanceof URL) return answer;
      this.#isPollable = "state" in answer;
      if (this.#isPollable) this.#emit([applyWatch(this.#snapshot, answer)]);
      else if (!answer.streamUrl) throw new TypeError("`refresh` must return an address, a watch or null");
      return answer.streamUrl;
    } catch (cause) {
      this.#tell({ type: "error", code: "refresh", fatal: false, cause });
      // without the fields of `cause`, which may be anything
      throw new Error("`refresh` failed", { cause });
    } finally {
      clearTimeout(this.#limitTimer);
    }
  }

  async #read(url) {
    const address = new URL(url, this.#options.baseUrl ?? globalThis.location?.href);
    if (this.#lastEventId) address.searchParams.set("lastEventId", this.#lastEventId);
    try {
      const options = { headers: { accept: "text/event-stream" }, credentials: "omit", signal: this.#begin(FIRST_BYTE) };
      const { status, headers, body } = await (this.#options.fetch ?? fetch)(address, options);
      // all of it was told before
      if (status === 204) return this.close();
      if (status !== 200 || !body || !headers.get("content-type")?.startsWith("text/event-stream")) {
        const retryAfter = Math.min(1000 * Number(headers.get("retry-after")) || 0, LONGEST_WAIT);
        throw Object.assign(new Error(`the stream answered ${status}`), { status, retryAfter });
      }
      await this.#take(body.getReader());
    } finally {
      clearTimeout(this.#limitTimer);
    }
  }

  async #take(reader) {
    const parser = new EventParser();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.closed) return;
      this.#limit(SILENCE);
      this.#fails = 0;
      this.#restore();
      const results = [];
      for (const message of parser.push(decoder.decode(value, { stream: true }))) {
        results.push(applyMessage(results.at(-1)?.snapshot ?? this.#snapshot, message));
      }
      this.#lastEventId = parser.lastEventId || this.#lastEventId;
      this.#retry = parser.retry ?? this.#retry;
      if (results.length) this.#emit(results);
    }
  }

  #emit(results) {
    if (this.closed) return;
    this.#snapshot = results.at(-1).snapshot;
    this.#tell(...latest(results.flatMap(({ changes }) => changes)));
    if (this.#snapshot.event?.final || this.#snapshot.ended) this.close();
  }

  #tell(...changes) {
    for (const detail of changes) {
      if (this.closed) return;
      for (const queue of this.#queues) queue.changes.push(detail);
      this.dispatchEvent(new CustomEvent(detail.type, { detail }));
    }
    for (const queue of this.#queues) queue.wake?.();
    const detail = { changes, snapshot: this.#snapshot };
    if (changes.length && !this.closed) this.dispatchEvent(new CustomEvent("change", { detail }));
  }

  #fail(code) {
    this.#tell({ type: "error", code, fatal: true });
    this.close();
  }

  #break() {
    this.#lostTimer ??= setTimeout(() => this.#setLost(true), PATIENCE);
    if (this.closed) clearTimeout(this.#lostTimer);
  }

  #restore() {
    clearTimeout(this.#lostTimer);
    this.#lostTimer = undefined;
    if (this.#isLost) this.#setLost(false);
  }

  #setLost(isLost) {
    this.#isLost = isLost;
    this.#tell({ type: "connection", connected: !isLost });
  }

  /** Doubles with each failure. Jitter keeps pages from coming back all at once. */
  #backOff() {
    return Math.min(this.#retry * 2 ** this.#fails, LONGEST_WAIT) * (0.5 + Math.random() / 2);
  }

  #sleep(wait) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Follows the watch at `streamUrl`. */
export const watchJob = (options) => new JobWatch(options);
