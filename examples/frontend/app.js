// Connects a bank. <basiq-job-progress> shows what becomes of it; this page does what there is to do about it.

import "./basiq-job-progress/element.js";
import { speak, t } from "./texts.js";
import { $, clearFaults, draw, drawBanks, drawNotices, focusOn, forget, say, tellFault, tick } from "./view.js";

const progress = $("progress");
let locale = speak([localStorage.getItem("locale") ?? [], ...navigator.languages].flat());
let banks = [];
/** The connection that is shown, if one is. */
let state;
/** What the backend answered when it began the watch that is shown next. */
let begun;
let isBeginning = false;

/** A call to the page's own backend; an error has the `code` that it answered. */
async function call(method, path, body) {
  const options = { method, headers: body && { "content-type": "application/json" }, body: body && JSON.stringify(body) };
  const answer = await fetch(`/api/${path}`, options).catch(() => undefined);
  const json = await answer?.json().catch(() => ({}));
  if (answer?.ok) return json;
  throw Object.assign(new Error(`${method} ${path}`), { status: answer?.status ?? 0, code: json?.code });
}

/** Goes where the address says: `#wch_…` is a connection, anything else the banks. */
async function go() {
  stop();
  const id = location.hash.slice(1);
  const known = begun?.watchId === id ? begun : undefined;
  begun = undefined;
  if (id.startsWith("wch_")) await openWatch(id, known);
  else showBanks();
}

/** Closes the stream. */
function stop() {
  clearFaults();
  state = undefined;
  progress.refresh = undefined;
  progress.streamUrl = null;
}

function showBanks(fault) {
  stop();
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
  state = { id, bank: banks.find((bank) => bank.id === known.bank), isSending: false };
  forget();
  // by how much this machine's clock is behind; less than a few seconds is the way here
  const behind = known.now - Date.now();
  progress.clockOffset = Math.abs(behind) < 5000 ? 0 : behind;
  progress.bank = state.bank.name;
  // the relay's words are in the language that was asked for when the watch began
  progress.setAttribute("message-lang", known.locale);
  progress.refresh = () => refresh(id);
  progress.streamUrl = known.streamUrl;
  $("choose").hidden = true;
  $("connection").hidden = false;
  draw(state);
  focusOn();
}

/** Another address of the stream, and what is known by now; null where the backend knows no such watch. */
async function refresh(id) {
  try {
    return await call("GET", `connections/${id}`);
  } catch (error) {
    if (error.status === 404 || error.status === 401) return null;
    throw error;
  }
}

function changed() {
  if (!state) return;
  state.isSending = false;
  clearFaults();
  draw(state);
  focusOn();
}

/** Has the backend begin a watch, and shows it; one at a time. */
async function begin(path, body, place, button) {
  if (isBeginning) return;
  clearFaults();
  isBeginning = true;
  button?.setAttribute("aria-busy", "true");
  try {
    begun = await call("POST", path, { ...body, locale });
    location.hash = begun.watchId;
  } catch {
    tellFault(place, "wrong");
  } finally {
    isBeginning = false;
    button?.removeAttribute("aria-busy");
  }
}

async function sendAnswer() {
  if ($("send").getAttribute("aria-disabled") === "true") return;
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
    if (state === asked && progress.phase === "needs-user") tellFault("challenge-fault", error.code ?? "upstream-unavailable");
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

const tryAgain = () => begin(`connections/${state.id}/retry`, {}, "remedy-fault", $("again"));
const chooseAnother = () => (location.hash = "");

/** Shows what happened to the person's connections since: a consent that ends, a refresh at night that failed. */
async function showNotices() {
  const notices = await call("GET", "notices").catch(() => undefined);
  if (notices && drawNotices(notices)) say(notices[0].text);
}

function listenToProgress() {
  for (const type of ["phase", "needs-user"]) progress.addEventListener(type, changed);
  // the element's own button: what is not asked for here has a form or a link in its place
  progress.addEventListener("action", ({ detail }) => (detail.action === "retry" ? tryAgain() : chooseAnother()));
  progress.addEventListener("error", ({ detail }) => {
    if (detail.code !== "gone") return;
    history.replaceState(null, "", location.pathname);
    showBanks("gone");
  });
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
  $("another").addEventListener("click", chooseAnother);
  // the address stands for a connection, so it has no room for a place on the page
  document.querySelector(".skip").addEventListener("click", (clicked) => {
    clicked.preventDefault();
    $("main").focus();
  });
  $("locale").addEventListener("change", ({ target }) => {
    locale = speak([target.value]);
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
  listenToProgress();
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
