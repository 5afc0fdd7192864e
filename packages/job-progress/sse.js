// Parses server-sent events as the HTML standard says. `fetch` reads the stream: it shows the status, `EventSource` does not.

const MAX_LENGTH = 1 << 20;

export class EventParser {
  /** The id of the last message that had one. */
  lastEventId = "";
  /** How long the server asks to wait before a reconnect, in milliseconds. */
  retry;
  #buffer = "";
  #event = "";
  #data = [];

  /** Takes the next piece of text. Returns the messages that it completes. */
  push(text) {
    // a CR at the end may be half of a CRLF
    const lines = (this.#buffer + text).split(/\r\n|\n|\r(?!$)/);
    this.#buffer = lines.pop();
    if (this.#buffer.length + this.#data.join("").length > MAX_LENGTH) throw new RangeError("a message is too long");
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line) {
    if (line === "") return this.#dispatch();
    const [, field, value] = /^([^:]*)(?::? ?)(.*)$/s.exec(line);
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.lastEventId = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    return [];
  }

  #dispatch() {
    const message = { event: this.#event || "message", data: this.#data.join("\n"), lastEventId: this.lastEventId };
    const isEmpty = this.#data.length === 0;
    this.#event = "";
    this.#data = [];
    return isEmpty ? [] : [message];
  }
}
