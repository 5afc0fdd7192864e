// <basiq-job-progress> shows a watch. What comes from the network is set as text, never as HTML.

import { INITIAL, phaseOf } from "./state.js";
import { CSS } from "./style.js";
import { createTexts, nearestLocale } from "./texts.js";
import { JobWatch } from "./watch.js";

const ICONS = {
  check: "m5 12.5 4.5 4.5L19 7.5",
  cross: "m7 7 10 10M17 7 7 17",
  dash: "M7 12h10",
  alert: "M12 5.5v8m0 4.7v.1",
  lock: "M8 11V8a4 4 0 0 1 8 0v3M6.5 11h11v8h-11z",
  clock: "M12 7v5l3.2 2M12 3.5a8.5 8.5 0 1 0 .1 0",
  bank: "m4 9.5 8-4.5 8 4.5zM6.5 10v6.5M12 10v6.5m5.5-6.5v6.5M4.5 19h15",
};
const BADGES = { "needs-user": "lock", delayed: "clock", success: "check", failed: "alert", ended: "alert" };
const DOTS = { success: "check", failed: "cross", skipped: "dash", later: "dash" };
const STEP_STATES = ["in-progress", "success", "failed", "skipped"];
/** What the states of steps become once nothing goes on, for now or for good. */
const AFTERWARDS = { failed: { pending: "never" }, ended: { pending: "never" }, delayed: { failed: "later" } };
const ACTIONS = ["answer-mfa", "resubmit-credentials", "resolve-at-bank", "reauthorise", "provide-statement", "retry"];
const NOTHING_TO_DO = ["none", "wait", "wait-for-bank"];
/** Changes that are also events of the element. */
const TOLD = ["needs-user", "delayed", "settled", "ended", "notice", "connection", "error"];
const PROPERTIES = ["refresh", "watch", "labels", "clockOffset", "streamUrl", "bank"];

function make(tag, attributes = {}, ...children) {
  const isSvg = tag === "svg" || tag === "path";
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const icon = (name) => make("svg", { viewBox: "0 0 24 24" }, make("path", { d: ICONS[name] }));

/** Sets a text if it differs, so that nothing is announced twice. Without a text, the element is hidden. */
function put(element, text) {
  element.hidden = text === "";
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a watch. A server has no elements; there the module can be loaded, and no more. */
export class BasiqJobProgress extends (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ["stream-url", "bank", "lang", "message-lang", "heading"];
  #watch;
  #detach;
  #isGiven = false;
  #isDue = false;
  #refresh;
  #labels = {};
  #texts;
  #timer;
  #doneAt;
  #isDead = false;
  #phase;
  #shownIcons = new WeakMap();
  #parts = {};
  #clockOffset = 0;

  constructor() {
    super();
    const part = (name, tag = "p", more = {}) => (this.#parts[name] = make(tag, { part: name, ...more }));
    const fill = part("fill", "div");
    const button = part("action", "button", { type: "button" });
    button.addEventListener("click", () => this.#act());
    const action = make("slot", { name: "action" }, button);
    this.#parts.said = make("p", { class: "said", role: "status", "aria-live": "polite" });
    this.#parts.base = make(
      "div",
      { part: "base" },
      part("badge", "div", { "aria-hidden": "true" }),
      part("title", "p", { tabindex: "-1" }),
      part("message", "p", { dir: "auto" }),
      part("eta"),
      part("trouble", "p", { role: "status" }),
      action,
      make("slot"),
      part("hint"),
      part("bar", "div", { role: "progressbar", "aria-valuemin": "0" }),
      part("steps", "ol"),
      this.#parts.said,
    );
    this.#parts.bar.append(fill);
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
    root.adoptedStyleSheets = [sheet];
    root.append(this.#parts.base);
  }

  connectedCallback() {
    // what was set before the element was defined hides the accessors
    for (const name of PROPERTIES.filter((name) => Object.hasOwn(this, name))) {
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
    this.#timer ??= setInterval(() => this.#tick(), 1000);
    if (!this.#watch) this.#start();
    this.#draw();
  }

  disconnectedCallback() {
    // an element that is only moved keeps its stream
    queueMicrotask(() => {
      if (this.isConnected) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
      if (!this.#isGiven) this.#follow(undefined);
    });
  }

  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === "stream-url") this.#start();
    this.#draw();
  }

  /** The address of the stream, as the backend got it from the relay. */
  get streamUrl() {
    return this.getAttribute("stream-url");
  }

  set streamUrl(value) {
    this.#reflect("stream-url", value);
  }

  /** The name of the bank, for the title. */
  get bank() {
    return this.getAttribute("bank");
  }

  set bank(value) {
    this.#reflect("bank", value);
  }

  /** Asks the backend for another address. */
  get refresh() {
    return this.#refresh;
  }

  set refresh(value) {
    this.#refresh = value;
    if (!this.#watch) this.#start();
  }

  /** A watch that was opened elsewhere; the element shows it and does not close it. */
  get watch() {
    return this.#watch;
  }

  set watch(value) {
    this.#isGiven = Boolean(value);
    this.#follow(value ?? undefined);
    this.#start();
  }

  /** Texts in place of the element's own. */
  get labels() {
    return this.#labels;
  }

  set labels(value) {
    this.#labels = value ?? {};
    this.#draw();
  }

  /** By how many milliseconds the clock of this machine is behind. */
  get clockOffset() {
    return this.#clockOffset;
  }

  set clockOffset(value) {
    this.#clockOffset = Number(value) || 0;
    this.#draw();
  }

  get snapshot() {
    return this.#watch?.snapshot ?? INITIAL;
  }

  get phase() {
    return phaseOf(this.snapshot);
  }

  /** Focuses the title: nothing else in here is always there. */
  focus(options) {
    this.#parts.title.focus(options);
  }

  #reflect(name, value) {
    if (value) this.setAttribute(name, value);
    else this.removeAttribute(name);
  }

  /** Opens a stream once all attributes and properties of now are set. */
  #start() {
    if (this.#isDue || this.#isGiven) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      if (this.#isGiven || !this.isConnected) return;
      const element = this;
      const options = {
        streamUrl: this.streamUrl,
        get refresh() {
          return element.refresh;
        },
      };
      this.#follow(this.streamUrl || this.refresh ? new JobWatch(options) : undefined);
    });
  }

  #follow(watch) {
    this.#detach?.();
    this.#watch = watch;
    this.#expect(watch?.snapshot.secondsLeft);
    this.#phase = undefined;
    this.#isDead = false;
    this.#parts.trouble.textContent = "";
    const isOwn = !this.#isGiven;
    const stop = new AbortController();
    this.#detach = () => {
      stop.abort();
      if (isOwn) watch?.close();
    };
    const onChange = ({ detail }) => this.#changed(detail.changes);
    watch?.addEventListener("change", onChange, { signal: stop.signal });
    this.#draw();
  }

  #expect(secondsLeft) {
    this.#doneAt = typeof secondsLeft === "number" ? Date.now() + 1000 * secondsLeft : undefined;
  }

  #changed(changes) {
    const watch = this.#watch;
    for (const { type, secondsLeft, connected, fatal } of changes) {
      if (type === "eta") this.#expect(secondsLeft);
      if (fatal) this.#isDead = true;
      if (type === "connection") this.#parts.trouble.textContent = connected ? "" : this.#texts.text("lost");
      if (connected) this.#say("found");
    }
    if (this.#isDead) this.#parts.trouble.textContent = this.#texts.text("gone");
    this.#draw();
    for (const change of changes) {
      // a listener may have put another watch in place
      if (this.#watch === watch && TOLD.includes(change.type)) this.#tell(change.type, change);
    }
  }

  #tell(type, detail) {
    // an `error` that bubbles would look like a script's
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: type !== "error", composed: type !== "error" }));
  }

  #say(key, values) {
    this.#parts.said.textContent = this.#texts.text(key, values);
  }

  #act() {
    const { event } = this.snapshot;
    if (this.#parts.action.getAttribute("aria-disabled") !== "true") this.#tell("action", { action: this.#action(), event });
  }

  #isRunning() {
    return this.phase === "running" || this.phase === "connecting";
  }

  /** What there is to do, or null. */
  #action() {
    const { event } = this.snapshot;
    if (!event || !["needs-user", "failed", "ended"].includes(this.phase)) return null;
    if (ACTIONS.includes(event.action)) return event.action;
    return NOTHING_TO_DO.includes(event.action) ? null : "contact-support";
  }

  #draw() {
    const lang = this.closest("[lang]")?.lang ?? document.documentElement.lang;
    const texts = (this.#texts = createTexts(lang || nearestLocale(navigator.languages), this.#labels));
    const { base, badge, title, message, hint, action, said } = this.#parts;
    const { phase } = this;
    const { event } = this.snapshot;
    base.lang = texts.locale;
    base.dir = texts.dir;
    const isRunning = this.#isRunning();
    badge.part = isRunning && !this.#isDead ? "badge busy" : "badge";
    this.#setIcon(badge, BADGES[phase] ?? "bank");
    const isNew = this.#phase && title.textContent !== this.#title(phase);
    put(title, this.#title(phase));
    const level = this.getAttribute("heading");
    if (level) title.setAttribute("aria-level", level);
    title.role = level ? "heading" : null;
    put(message, isRunning ? "" : (event?.userMessage ?? ""));
    message.lang = this.getAttribute("message-lang") ?? "";
    put(hint, phase === "delayed" ? texts.text("closable") : "");
    action.hidden = !this.#action();
    this.#drawSteps(phase);
    this.#tick();
    if (this.getAttribute("phase") !== phase) this.setAttribute("phase", phase);
    const previous = this.#phase;
    if (isNew && previous !== phase) said.textContent = [title, message].map((element) => element.textContent).join(". ");
    this.#phase = phase;
    if (previous && previous !== phase) this.#tell("phase", { phase, previous });
  }

  #title(phase) {
    const key = phase === "connecting" ? "running" : phase;
    const text = this.#texts.text(key, { bank: this.bank || this.#texts.text("bank") });
    return this.bank ? text : text.charAt(0).toUpperCase() + text.slice(1);
  }

  #setIcon(element, name) {
    if (this.#shownIcons.get(element) === name) return;
    this.#shownIcons.set(element, name);
    element.replaceChildren(...(name ? [icon(name)] : []));
  }

  #steps(phase) {
    const { steps } = this.snapshot;
    const shown = steps.length ? steps : [{ title: "starting", status: "pending" }];
    const states = shown.map(({ title, status }) => ({ title, state: STEP_STATES.includes(status) ? status : "pending" }));
    // between two steps it is the next one that is waited for
    const next = states.find(({ state }) => state === "pending");
    if (next && this.#isRunning() && !states.some(({ state }) => state === "in-progress")) next.state = "in-progress";
    const afterwards = this.#isDead ? { "in-progress": "pending" } : (AFTERWARDS[phase] ?? {});
    return states.map(({ title, state }) => ({ title, state: afterwards[state] ?? state }));
  }

  /** A step in words; one that has no text, by its title. */
  #stepName({ title }) {
    const key = `step-${title}`;
    return this.#texts.has(key) ? this.#texts.text(key) : title.replaceAll("-", " ");
  }

  #drawSteps(phase) {
    const { steps: list, bar, fill } = this.#parts;
    const steps = this.#steps(phase);
    while (list.children.length > steps.length) list.lastChild.remove();
    steps.forEach((step, index) => {
      if (!list.children[index]) {
        const words = make("span", {}, make("span", { part: "step-name" }), make("span", { part: "step-state" }));
        list.append(make("li", {}, make("span", { part: "dot", "aria-hidden": "true" }), words));
      }
      const item = list.children[index];
      item.part = `step step-${step.state}`;
      const [dot, { children: words }] = item.children;
      this.#setIcon(dot, DOTS[step.state]);
      put(words[0], this.#stepName(step));
      put(words[1], this.#texts.text(`is-${step.state}`));
    });
    this.#drawBar(bar, fill, steps);
  }

  #drawBar(bar, fill, steps) {
    const done = steps.filter(({ state }) => state === "success" || state === "skipped").length;
    const now = steps.find(({ state }) => state === "in-progress");
    const words = now ? { name: this.#stepName(now), word: this.#texts.text("is-in-progress") } : undefined;
    const said = words ? this.#texts.text("stepOf", words) : `${done} / ${steps.length}`;
    const values = { label: this.#texts.text("progress"), valuemax: steps.length, valuenow: done, valuetext: said };
    if (this.#phase === "running" && words && bar.getAttribute("aria-valuetext") !== said) this.#say("stepOf", words);
    for (const [name, value] of Object.entries(values)) bar.setAttribute(`aria-${name}`, value);
    fill.style.inlineSize = `${(100 * done) / steps.length}%`;
  }

  /** Draws what changes with the time alone. */
  #tick() {
    const { eta, action } = this.#parts;
    const { text, isUrgent } = this.#timeLeft();
    if (isUrgent && !eta.part.contains("urgent")) this.#say("hurry");
    put(eta, text);
    eta.part = isUrgent ? "eta urgent" : "eta";
    const kind = this.#action();
    if (!kind) return;
    const { retryAt } = this.snapshot.event;
    const wait = kind === "retry" && retryAt ? this.#secondsTo(retryAt) : 0;
    action.textContent = wait > 0 ? this.#texts.text("retryIn", { time: this.#texts.asClock(wait) }) : this.#texts.text(kind);
    if (wait <= 0 && action.getAttribute("aria-disabled") === "true") this.#say(kind);
    action.setAttribute("aria-disabled", String(wait > 0));
  }

  #secondsTo(time) {
    return Math.ceil((Date.parse(time) - this.#clockOffset - Date.now()) / 1000);
  }

  /** How long the job still takes, or how long a question stays open. */
  #timeLeft() {
    const texts = this.#texts;
    if (this.#isRunning() && !this.#isDead) {
      const left = this.#doneAt && Math.ceil((this.#doneAt - Date.now()) / 1000);
      if (!left) return { text: texts.text("usual") };
      return { text: left > 0 ? texts.text("left", { time: texts.inWords(left) }) : texts.text("soon") };
    }
    const expiresAt = this.phase === "needs-user" && this.snapshot.event?.challenge?.expiresAt;
    if (!expiresAt) return { text: "" };
    const left = this.#secondsTo(expiresAt);
    if (left <= 0) return { text: texts.text("expired") };
    return { text: texts.text("timer", { time: texts.asClock(left) }), isUrgent: left <= 30 };
  }
}

if (globalThis.customElements && !customElements.get("basiq-job-progress")) {
  customElements.define("basiq-job-progress", BasiqJobProgress);
}
