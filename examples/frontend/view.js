// Draws what is known of a connection. Nothing is kept here but what stands on the page.

import { asClock, inWords, knows, t } from "./texts.js";

export const $ = (id) => document.getElementById(id);

const BADGES = { running: "bank", asking: "lock", waiting: "clock", success: "check", failed: "alert", ended: "alert" };
const WORDS = { success: "done", failed: "broken", skipped: "skipped", "in-progress": "in-progress" };
const DOTS = { done: "check", broken: "cross", skipped: "dash", later: "dash" };
/** What steps come to once nothing goes on, for good or for now. */
const AFTERWARDS = { failed: { pending: "never" }, ended: { pending: "never" }, waiting: { broken: "later" } };

/** What there is to do for each action; anything else is for support. */
const REMEDIES = {
  none: ["another"],
  "resubmit-credentials": ["login"],
  "resolve-at-bank": ["bank-site", "again"],
  reauthorise: ["another"],
  "provide-statement": ["another"],
  retry: ["again"],
};
const SUPPORT = ["support", "reference"];
const ALL_REMEDIES = [...new Set(Object.values(REMEDIES).flat()), ...SUPPORT];
const FAULTS = ["challenge-fault", "login-fault", "remedy-fault", "choose-fault"];

/** What to show of a connection. */
export function phaseOf({ event, watch, hasEnded }) {
  if (event?.final) return event.status === "success" ? "success" : "failed";
  if (hasEnded) return "ended";
  if (watch === "awaiting-user" && event?.action === "answer-mfa") return "asking";
  return watch === "delayed" && event ? "waiting" : "running";
}

/** Draws notices, each in the language that it was written in. Returns whether there is a new one. */
export function drawNotices(notices) {
  const isNew = notices[0]?.id !== $("notices").dataset.newest;
  $("notices").hidden = notices.length === 0;
  if (!isNew) return false;
  $("notices").dataset.newest = notices[0].id;
  const items = notices.map(({ text, locale }) => {
    const item = document.createElement("li");
    Object.assign(item, { textContent: text, lang: locale, dir: "auto" });
    return item;
  });
  $("notices").querySelector("ul").replaceChildren(...items);
  return true;
}

/** Says something to those who listen to the page. */
export function say(text) {
  $("said").textContent = text;
}

/** Tells what went wrong where it did; takes back what was told before. */
export function tellFault(place, key) {
  clearFaults();
  const element = $(place);
  element.dataset.text = knows(key) ? key : "wrong";
  element.textContent = t(element.dataset.text);
  element.hidden = false;
  const inputs = element.closest("form")?.querySelectorAll("input") ?? [];
  const empty = [...inputs].filter((input) => !input.value.trim());
  const wrong = key === "empty" ? empty : key === "mfa-refused" ? [...inputs] : [];
  for (const input of wrong) input.setAttribute("aria-invalid", "true");
  wrong[0]?.focus();
}

export function clearFaults() {
  for (const id of FAULTS) {
    $(id).hidden = true;
    delete $(id).dataset.text;
  }
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

export function drawBanks(banks, choose) {
  const items = banks.map(({ id, name }) => {
    const item = $("bank").content.cloneNode(true);
    const button = item.querySelector("button");
    button.dataset.bank = id;
    button.querySelector(".logo").textContent = name[0];
    button.querySelector(".logo").dataset.name = name[0];
    button.querySelector("strong").textContent = name;
    const story = button.querySelector(".words span");
    story.dataset.text = `story-${id}`;
    story.textContent = t(story.dataset.text);
    button.addEventListener("click", () => choose(id, button));
    return item;
  });
  $("banks").replaceChildren(...items);
}

/** Draws a connection, and answers its phase. */
export function draw(state) {
  const phase = phaseOf(state);
  const { event } = state;
  const told = phase === "running" || phase === "ended" ? undefined : event;
  $("connection").dataset.phase = phase;
  $("badge").querySelector("use").setAttribute("href", `#icon-${BADGES[phase]}`);
  $("title").textContent = t(phase, { bank: state.bank.name });
  document.title = `${$("title").textContent} · Example Money`;
  $("message").hidden = !told;
  $("message").textContent = told?.userMessage ?? "";
  // the words are in the language that was asked for when the watch began
  $("message").lang = state.spoken;
  $("challenge").hidden = phase !== "asking";
  if (phase === "asking") drawChallenge(state);
  $("closable").hidden = phase !== "waiting";
  const isOver = phase === "success" || phase === "failed" || phase === "ended";
  drawRemedies(state, !isOver ? [] : phase === "ended" ? ["another"] : (REMEDIES[event.action] ?? SUPPORT));
  drawSteps(state);
  tick(state);
  return phase;
}

function drawRemedies(state, shown) {
  for (const id of ALL_REMEDIES) {
    $(id).hidden = !shown.includes(id);
    $(id).classList.toggle("main", id === shown[0]);
  }
  $("remedies").hidden = shown.length === 0 || shown[0] === "login";
  // one way back is enough
  $("back").parentElement.hidden = shown.includes("another");
  $("another").dataset.text = state.event?.action === "none" ? "oneMore" : state.event?.action === "reauthorise" ? "choose" : "another";
  $("another").textContent = t($("another").dataset.text);
  const { name: bank, hint } = state.bank;
  $("bank-site").textContent = t("bankSite", { bank });
  $("bank-site").append(unseen(` (${t("newTab")})`));
  $("reference").textContent = t("reference", { id: state.event?.jobId });
  $("support").href = `mailto:support@example.com?subject=${encodeURIComponent(state.event?.jobId ?? "")}`;
  drawHint("login-hint", hint);
}

function unseen(text) {
  return Object.assign(document.createElement("span"), { className: "unseen", textContent: text });
}

function drawHint(id, hint) {
  $(id).hidden = !hint;
  $(id).textContent = hint ? t("hint", { hint }) : "";
}

/** The question, and a labelled input for each answer; drawn anew only for another question. */
function drawChallenge(state) {
  const { challenge, sequence } = state.event;
  drawHint("challenge-hint", state.bank.hint);
  const send = $("send");
  send.dataset.text = state.isSending ? "checking" : "answer";
  send.textContent = t(send.dataset.text);
  send.setAttribute("aria-disabled", String(Boolean(state.isSending)));
  const key = `${state.id} ${sequence}`;
  if ($("challenge").dataset.key === key) return;
  $("challenge").dataset.key = key;
  $("asked").textContent = challenge.description;
  const fields = challenge.inputs.map((text, index) => {
    const field = $("field").content.cloneNode(true);
    const [label, input] = [field.querySelector("label"), field.querySelector("input")];
    label.textContent = text;
    label.htmlFor = input.id = `answer-${index}`;
    const isCode = challenge.method === "token";
    const manners = isCode ? { autocomplete: "one-time-code", inputmode: "numeric" } : { autocomplete: "off" };
    const described = { "aria-describedby": "asked challenge-fault", autocapitalize: "none", spellcheck: "false" };
    for (const [name, value] of Object.entries({ ...manners, ...described })) input.setAttribute(name, value);
    return field;
  });
  $("inputs").replaceChildren(...fields);
}

/** The steps as they are; before the bank has told any, one that stands for them. */
function stepsOf(state) {
  const steps = state.steps.length ? state.steps : [{ title: "starting", status: "pending" }];
  if (phaseOf(state) !== "running" || steps.some((step) => wordOf(step) === "in-progress")) return steps;
  // between two steps it is the next one that is waited for
  const next = steps.find((step) => wordOf(step) === "pending");
  return steps.map((step) => (step === next ? { ...step, status: "in-progress" } : step));
}

function drawSteps(state) {
  const afterwards = AFTERWARDS[phaseOf(state)] ?? {};
  const list = $("steps");
  const shown = stepsOf(state);
  while (list.children.length > shown.length) list.lastElementChild.remove();
  shown.forEach((step, index) => {
    if (!list.children[index]) list.append($("step").content.cloneNode(true));
    const item = list.children[index];
    const word = afterwards[wordOf(step)] ?? wordOf(step);
    item.dataset.state = word;
    item.querySelector("use").setAttribute("href", DOTS[word] ? `#icon-${DOTS[word]}` : "");
    item.querySelector(".name").textContent = nameOf(step);
    item.querySelector(".word").textContent = t(word);
  });
}

const wordOf = ({ status }) => WORDS[status] ?? "pending";

/** A step in words; one that nobody knew of when this was written, by its title. */
const nameOf = ({ title }) => (knows(title) ? t(title) : title.replaceAll("-", " "));

/** The step that is under way, for those who listen. */
export function stepInWords(state) {
  const step = stepsOf(state).find((step) => wordOf(step) === "in-progress");
  return step ? t("stepOf", { name: nameOf(step), word: t("in-progress") }) : "";
}

const secondsTo = (time) => Math.ceil((time - Date.now()) / 1000);

/** Draws what changes with the time alone. */
export function tick(state) {
  const phase = phaseOf(state);
  $("left").hidden = phase !== "running";
  const left = state.doneAt && secondsTo(state.doneAt);
  $("left").textContent = !left ? t("usual") : left > 0 ? t("left", { time: inWords(left) }) : t("soon");
  if (phase === "asking") tickChallenge(state);
  const wait = phase === "failed" && state.event.retryAt ? secondsTo(Date.parse(state.event.retryAt) - state.skew) : 0;
  const again = $("again");
  const mustWait = wait > 0;
  if (again.getAttribute("aria-disabled") === "true" && !mustWait && !again.hidden) say(t("again"));
  again.setAttribute("aria-disabled", String(mustWait));
  const now = state.event?.action === "resolve-at-bank" ? "doneAtBank" : "again";
  again.textContent = mustWait ? t("againIn", { time: asClock(wait) }) : t(now);
}

function tickChallenge(state) {
  const { expiresAt } = state.event.challenge;
  const left = expiresAt ? secondsTo(Date.parse(expiresAt) - state.skew) : undefined;
  const timer = $("timer");
  timer.hidden = left === undefined;
  if (timer.hidden) return;
  timer.textContent = left > 0 ? t("timer", { time: asClock(left) }) : t("expired");
  const isShort = left <= 30;
  if (isShort && left > 0 && !timer.classList.contains("short")) say(t("hurry"));
  timer.classList.toggle("short", isShort);
  if (left <= 0) $("send").setAttribute("aria-disabled", "true");
}

/** Brings whoever uses the page to what is new. */
export function focusOn(phase) {
  const first = phase === "asking" ? document.querySelector("#inputs input") : undefined;
  (first ?? $("title")).focus();
}
