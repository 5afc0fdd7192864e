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

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
