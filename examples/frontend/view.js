// Draws what is around the element: banks, notices, and what takes the place of the element's button.

import { knows, t } from "./texts.js";

export const $ = (id) => document.getElementById(id);

const FAULTS = ["challenge-fault", "login-fault", "remedy-fault", "choose-fault"];
/** What takes the place of the element's button, for these actions. */
const IN_PLACE = { "answer-mfa": "challenge", "resubmit-credentials": "login", "resolve-at-bank": "at-bank" };
const SUPPORT = ["contact-support", "fix-request"];

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

/** Draws what there is to do about a connection. */
export function draw(state) {
  const { phase, snapshot } = $("progress");
  const { event } = snapshot;
  const isOver = phase === "success" || phase === "failed" || phase === "ended";
  const action = isOver || phase === "needs-user" ? (event?.action ?? "none") : undefined;
  const shown = SUPPORT.includes(action) ? "support" : IN_PLACE[action];
  for (const id of [...Object.values(IN_PLACE), "support"]) {
    $(id).hidden = id !== shown;
    // what is in the slot takes the place of the element's button
    $(id).slot = id === shown ? "action" : "";
  }
  $("more").hidden = !isOver || action !== "none";
  $("back").parentElement.hidden = !$("more").hidden;
  const { name: bank, hint } = state.bank;
  document.title = `${t(phase === "connecting" ? "running" : phase, { bank })} · Example Money`;
  tick(state);
  $("bank-site").textContent = t("bankSite", { bank });
  $("bank-site").append(unseen(` (${t("newTab")})`));
  $("reference").textContent = t("reference", { id: event?.jobId ?? "" });
  $("write").href = `mailto:support@example.com?subject=${encodeURIComponent(event?.jobId ?? "")}`;
  drawHint("login-hint", hint);
}

/** Draws what changes with the time alone. */
export function tick(state) {
  const { event } = $("progress").snapshot;
  if (!$("challenge").hidden && event?.challenge) drawChallenge(state, event);
}

function unseen(text) {
  return Object.assign(document.createElement("span"), { className: "unseen", textContent: text });
}

function drawHint(id, hint) {
  $(id).hidden = !hint;
  $(id).textContent = hint ? t("hint", { hint }) : "";
}

/** Empties the forms, for another connection. */
export function forget() {
  for (const form of [$("challenge"), $("login")]) form.reset();
  delete $("challenge").dataset.key;
}

/** The question, and a labelled input for each answer; drawn anew only for another question. */
function drawChallenge({ id, bank, isSending }, { challenge, sequence }) {
  drawHint("challenge-hint", bank.hint);
  const isLate = Date.parse(challenge.expiresAt ?? "") <= Date.now() + $("progress").clockOffset;
  const send = $("send");
  send.dataset.text = isSending ? "checking" : "answer";
  send.textContent = t(send.dataset.text);
  send.setAttribute("aria-disabled", String(isSending || isLate));
  const key = `${id} ${sequence}`;
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

/** Brings whoever uses the page to what is new: a question, or the title if what they used is gone. */
export function focusOn() {
  const isAsked = !$("challenge").hidden;
  const first = isAsked ? document.querySelector("#inputs input") : undefined;
  if (first) first.focus();
  else $("progress").focus();
}
