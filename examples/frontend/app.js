// Connects a bank and shows what becomes of it: progress, questions, the end.

import { WatchStream, call } from "./stream.js";
import { nearest, speak, t } from "./texts.js";
import { $, clearFaults, draw, drawBanks, drawNotices, focusOn, phaseOf, say, stepInWords, tellFault, tick } from "./view.js";

let locale = speak(localStorage.getItem("locale") ?? nearest(navigator.languages));
let banks = [];
/** The connection that is shown, if one is. */
let state;
let stream;
/** What the backend answered when it began the watch that is shown next. */
let begun;

/** Goes where the address says: `#wch_…` is a connection, anything else the banks. */
async function go() {
  stream?.close();
  clearFaults();
  const id = location.hash.slice(1);
  const known = begun?.watchId === id ? begun : undefined;
  begun = undefined;
  if (id.startsWith("wch_")) await openWatch(id, known);
  else showBanks();
}

function showBanks(fault) {
  state = undefined;
  $("connection").hidden = true;
  $("choose").hidden = false;
  document.title = t("choose");
  if (fault) tellFault("choose-fault", fault);
}

async function openWatch(id, known) {
  try {
    known ??= await call("GET", `connections/${id}`);
  } catch (error) {
    history.replaceState(null, "", location.pathname);
    return showBanks(error.status === 404 ? "gone" : "wrong");
  }
  const bank = banks.find((bank) => bank.id === known.bank);
  // by how much this machine's clock is behind; less than a few seconds is the way here
  const behind = known.now - Date.now();
  const skew = Math.abs(behind) < 5000 ? 0 : behind;
  state = { id, bank, skew, steps: [], watch: known.state, event: undefined, hasEnded: false, spoken: known.locale };
  $("choose").hidden = true;
  $("connection").hidden = false;
  $("trouble").textContent = "";
  for (const form of [$("challenge"), $("login")]) form.reset();
  show();
  stream = new WatchStream(id, { progress, event, end, lost, found, gone });
  await stream.open(known);
}

/** Draws what is known; what is new in kind is brought to whoever uses the page. */
function show() {
  const before = state.phase;
  state.phase = draw(state);
  if (state.phase === before) return;
  clearFaults();
  focusOn(state.phase);
  if (!$("message").hidden) say($("message").textContent);
}

function progress({ steps, state: watch, estimatedSecondsLeft }) {
  const before = stepInWords(state);
  Object.assign(state, { steps, watch });
  state.doneAt = estimatedSecondsLeft === null ? undefined : Date.now() + 1000 * estimatedSecondsLeft;
  // a question that was answered is over
  if (watch !== "awaiting-user" && state.event?.challenge) state.event = undefined;
  if (watch !== "awaiting-user") state.isSending = false;
  show();
  const now = stepInWords(state);
  if (state.phase === "running" && now !== before) say(now);
}

function event(event) {
  // a stream tells from the beginning: a question of then is none of now
  if (event.challenge && state.watch !== "awaiting-user") return;
  state.event = event;
  state.isSending = false;
  // another question is new, although the phase is the same
  if (event.challenge) state.phase = undefined;
  show();
}

function end() {
  state.hasEnded = true;
  show();
}

function lost() {
  $("trouble").textContent = t("lost");
}

function found() {
  if ($("trouble").textContent) say(t("found"));
  $("trouble").textContent = "";
}

function gone() {
  history.replaceState(null, "", location.pathname);
  showBanks("gone");
}

/** Has the backend begin a watch, and shows it; one at a time. */
async function begin(path, body, place, button) {
  if (button.getAttribute("aria-busy") === "true") return;
  clearFaults();
  button.setAttribute("aria-busy", "true");
  try {
    begun = await call("POST", path, { ...body, locale });
    location.hash = begun.watchId;
  } catch {
    tellFault(place, "wrong");
  } finally {
    button.removeAttribute("aria-busy");
  }
}

const isOff = (button) => button.getAttribute("aria-disabled") === "true";

async function sendAnswer() {
  if (isOff($("send"))) return;
  const inputs = [...document.querySelectorAll("#inputs input")];
  const response = inputs.map((input) => input.value.trim());
  if (response.includes("")) return tellFault("challenge-fault", "empty");
  clearFaults();
  const asked = state;
  state.isSending = true;
  draw(state);
  try {
    await call("POST", `connections/${state.id}/mfa`, { response });
    // should nothing come of it, it can be sent again
    setTimeout(() => letSend(asked), 10_000);
  } catch (error) {
    letSend(asked);
    if (state === asked && phaseOf(state) === "asking") tellFault("challenge-fault", error.code ?? "upstream-unavailable");
  }
}

function letSend(asked) {
  if (state !== asked || !state.isSending) return;
  state.isSending = false;
  draw(state);
}

async function logIn() {
  const { loginId, password } = Object.fromEntries(new FormData($("login")));
  if (!loginId.trim() || !password) return tellFault("login-fault", "empty");
  await begin(`connections/${state.id}/login`, { loginId, password }, "login-fault", $("login").querySelector("button"));
  $("password").value = "";
}

function tryAgain() {
  if (!isOff($("again"))) begin(`connections/${state.id}/retry`, {}, "remedy-fault", $("again"));
}

/** Shows what happened to the person's connections since: a consent that ends, a refresh at night that failed. */
async function showNotices() {
  const notices = await call("GET", "notices").catch(() => undefined);
  if (notices && drawNotices(notices)) say(notices[0].text);
}

function listen() {
  const submits = { challenge: sendAnswer, login: logIn };
  for (const [id, act] of Object.entries(submits)) {
    $(id).addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      act();
    });
  }
  $("again").addEventListener("click", tryAgain);
  $("another").addEventListener("click", () => (location.hash = ""));
  // the address stands for a connection, so it has no room for a place on the page
  document.querySelector(".skip").addEventListener("click", (clicked) => {
    clicked.preventDefault();
    $("main").focus();
  });
  $("locale").addEventListener("change", ({ target }) => {
    locale = speak(target.value);
    localStorage.setItem("locale", locale);
    if (state) draw(state);
    else document.title = t("choose");
  });
  addEventListener("hashchange", async () => {
    await go();
    if (!state) $("choose-title").focus();
  });
  setInterval(() => state && tick(state), 1000);
  setInterval(showNotices, 5000);
}

async function start() {
  $("locale").value = locale;
  listen();
  try {
    banks = await call("GET", "banks");
  } catch {
    return showBanks("wrong");
  }
  drawBanks(banks, (bank, button) => begin("connections", { bank }, "choose-fault", button));
  await showNotices();
  await go();
}

start();
