// What htmx leaves to the page: when not to ask, what to say when nobody answers, and copying.
"use strict";

const offline = document.getElementById("offline");

function isPoll(event) {
  return event.detail.ctx.sourceEvent?.type === "every";
}

// Nobody looks, or what is shown has come to its end.
document.addEventListener("htmx:config:request", (event) => {
  const live = event.detail.ctx.sourceElement.hasAttribute("hx-get");
  if (isPoll(event) && (document.hidden || !live)) event.preventDefault();
});

document.addEventListener("visibilitychange", () => {
  const live = document.getElementById("live");
  if (!document.hidden && live?.hasAttribute("hx-get")) htmx.trigger(live, "every", {}, false);
});

document.addEventListener("htmx:after:request", (event) => {
  offline.hidden = event.detail.ctx.response.status < 500;
});

document.addEventListener("htmx:error", () => {
  offline.hidden = false;
});

// A panel that asked whether to act closes once the act is done.
document.addEventListener("htmx:after:request", (event) => {
  const { sourceElement, response } = event.detail.ctx;
  const panel = sourceElement.closest?.("details.confirm");
  if (panel && response.status < 400) panel.open = false;
});

// Copying. Without a clipboard, as on a plain-HTTP page, the text is selected and copied as by hand.
async function copy(text, source) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const selection = getSelection();
  const mark = document.createElement("span");
  if (!source) {
    mark.textContent = text;
    document.body.append(mark);
  }
  selection.selectAllChildren(source ?? mark);
  document.execCommand("copy");
  mark.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.(".copy");
  if (!button) return;
  const { copy: id, copyText } = button.dataset;
  const source = id ? document.getElementById(id) : null;
  await copy(copyText ?? source.textContent, source);
  const label = button.getAttribute("aria-label");
  const say = (word) => {
    button.textContent = word;
    button.setAttribute("aria-label", label.replace(/^Cop(y|ied)/, word));
  };
  say("Copied");
  setTimeout(() => say("Copy"), 2000);
});

// Local time beside UTC.
const here = new Date();
const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const utcDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

function showLocal() {
  for (const shown of document.querySelectorAll("time[datetime]")) {
    const at = new Date(shown.dateTime);
    if (Number.isNaN(at.getTime()) || at.getTimezoneOffset() === 0) continue;
    const other = day.format(at) === utcDay.format(at) ? "" : `${day.format(at)} `;
    shown.dataset.local = `${other}${time.format(at)} local`;
  }
}

document.documentElement.classList.add("scripted");
if (here.getTimezoneOffset() !== 0) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.getElementById("zone").textContent = `; beside them are yours (${zone})`;
  showLocal();
  document.addEventListener("htmx:after:swap", showLocal);
}
