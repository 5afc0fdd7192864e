// The element of packages/job-progress by itself: each phase, by what a relay says, under a strict policy.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";

import { Eyes, check, shoot } from "./eyes.mjs";
import { until } from "./scenes.mjs";

const PACKAGE = new URL("../../packages/job-progress/", import.meta.url);
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; " +
  "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const PAGE = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Progress</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="page.css"><script type="module" src="page.js"></script></head>
<body><main></main></body></html>`;
const STYLE =
  ":root { color-scheme: light dark } body { margin: 0; font: 1rem system-ui, sans-serif; background: light-dark(#fff, #141c1a) } " +
  "main { max-width: 30rem; margin: 2rem auto; padding: 0 1rem } .themed { --job-progress-accent: rgb(90, 20, 120) } " +
  ".themed::part(title) { letter-spacing: 3px }";
const SCRIPT = `import "./element.js";
window.told = [];
for (const type of ["needs-user", "delayed", "settled", "ended", "notice", "connection", "error", "action"]) {
  document.addEventListener(type, ({ detail }) => told.push([type, detail]), { capture: true });
}`;
/** Markup that would do harm if it were taken for HTML. */
const HOSTILE = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;

const steps = (...states) => {
  const titles = ["verify-credentials", "mfa-challenge", "retrieve-accounts", "retrieve-transactions"];
  return states.map((status, index) => ({ title: titles[index], status }));
};
const progress = (state, states, estimatedSecondsLeft = null) => ["progress", { state, steps: steps(...states), estimatedSecondsLeft }];
const event = (status, action, more = {}) => [
  `job.${status}`,
  { type: `job.${status}`, status, action, sequence: 1, final: true, userMessage: "What happened. What to do.", retryAt: null, challenge: null, ...more },
];
const inSeconds = (seconds) => new Date(Date.now() + 1000 * seconds).toISOString();
const FAILED = ["success", "skipped", "failed", "pending"];
const question = () => ({ method: "token", description: "Enter the code", inputs: ["Code"], expiresAt: inSeconds(95) });
const asked = () => event("action-required", "answer-mfa", { final: false, challenge: question(), userMessage: "Your bank asks for one more security step. Please answer it now, before it expires." });
const PHASES = {
  connecting: () => [],
  running: () => [progress("watching", ["success", "in-progress", "pending", "pending"], 40)],
  "needs-user": () => [progress("awaiting-user", ["success", "in-progress", "pending", "pending"]), asked()],
  delayed: () => [progress("delayed", FAILED), event("delayed", "wait", { final: false, userMessage: "Your bank cannot send your information right now, so this will take longer than usual." })],
  success: () => [progress("settled", ["success", "skipped", "success", "success"]), event("success", "none", { userMessage: "Everything worked and your information is ready. There is nothing more for you to do." })],
  failed: () => [progress("settled", FAILED), event("failed", "retry", { retryAt: inSeconds(80), userMessage: "Your bank could not be reached just now. Please try again in a little while." })],
  ended: () => [progress("cancelled", ["success", "pending"]), ["end", { state: "cancelled" }]],
};

/** Streams by name: what each tells from its beginning, and the responses that are open. */
const streams = new Map();
let server, eyes;

function serveStream(name, request, response) {
  const stream = streams.get(name);
  stream.asked.push(request.url);
  if (stream.status !== 200) return response.writeHead(stream.status).end();
  response.writeHead(200, { "content-type": "text/event-stream" }).write(":\n\n");
  stream.open.add(response);
  response.on("close", () => stream.open.delete(response));
  for (const [type, body] of stream.messages) tell(response, type, body);
}

const tell = (response, type, body) => response.write(`event: ${type}\ndata: ${typeof body === "string" ? body : JSON.stringify(body)}\n\n`);

before(async () => {
  const own = { "/": ["text/html", PAGE], "/page.css": ["text/css", STYLE], "/page.js": ["text/javascript", SCRIPT] };
  server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    if (pathname.startsWith("/stream/")) return serveStream(pathname.slice(8), request, response);
    const [kind, body] = own[pathname] ?? ["text/javascript", await readFile(new URL(`.${pathname}`, PACKAGE)).catch(() => "")];
    response.writeHead(200, { "content-type": `${kind}; charset=utf-8`, "content-security-policy": POLICY }).end(body);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  eyes = await Eyes.open([`http://127.0.0.1:${server.address().port}`]);
});

after(async () => {
  await eyes?.close();
  server?.closeAllConnections();
  server?.close();
});

let count = 0;

/** A stream that tells these messages to whoever opens it. */
function stream(messages, status = 200) {
  const name = `s${(count += 1)}`;
  const made = { messages, status, open: new Set(), asked: [], url: `/stream/${name}` };
  made.tell = (...more) => {
    made.messages = [...made.messages, ...more];
    for (const response of made.open) for (const [type, body] of more) tell(response, type, body);
  };
  streams.set(name, made);
  return made;
}

/** A page with one element, which has these attributes. */
async function open(attributes, options = {}) {
  const page = await eyes.page({ viewport: { width: 620, height: 800 }, ...options });
  await page.goto("/");
  await page.waitForFunction(() => customElements.get("basiq-job-progress") && window.told);
  await page.evaluate((attributes) => {
    const element = document.createElement("basiq-job-progress");
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    document.querySelector("main").append(element);
  }, attributes);
  return page;
}

const reach = (page, phase) => page.locator(`basiq-job-progress[phase="${phase}"]`).waitFor();
const inside = (page, part) => page.locator(`basiq-job-progress [part~="${part}"]`);
const told = (page) => page.evaluate(() => window.told.map(([type]) => type).join(" "));
const attributesOf = (locator, ...names) => locator.evaluate((element, names) => names.map((name) => element.getAttribute(name)), names);

const TITLES = {
  connecting: "Connecting to Hooli Bank",
  running: "Connecting to Hooli Bank",
  "needs-user": "One more step for Hooli Bank",
  delayed: "Hooli Bank needs more time",
  success: "Hooli Bank is connected",
  failed: "Hooli Bank is not connected",
  ended: "The connection to Hooli Bank was stopped",
};

describe("the element", { concurrency: 4 }, () => {
  for (const [phase, title] of Object.entries(TITLES)) {
    test(`${phase}: readable and accessible, in light and dark, wide and on a phone`, async () => {
      const { url } = stream(PHASES[phase]());
      const page = await open({ "stream-url": url, bank: "Hooli Bank", heading: "1", "message-lang": "en" }, { reducedMotion: "reduce" });
      await reach(page, phase);
      await page.getByRole("heading", { level: 1, name: title }).waitFor();
      for (const [name, colorScheme, width] of [["", "light", 620], ["-dark", "dark", 620], ["-phone", "light", 390]]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 800 });
        // what is seen by axe is the same on a phone
        if (name !== "-phone") await check(page, `progress-${phase}${name}`);
        assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${phase}${name} is too wide`);
        await shoot(page, `progress-${phase}${name}`);
      }
      await page.context().close();
    });
  }

  test("a job is shown from its beginning to its end, and each change is told", async () => {
    const relay = stream([progress("watching", ["in-progress", "pending"], 75)]);
    const page = await open({ "stream-url": relay.url });
    await page.getByText("Connecting to your bank").waitFor();
    await page.getByText("About 75 seconds left").or(page.getByText("About 74 seconds left")).waitFor();
    const bar = page.getByRole("progressbar", { name: "Progress" });
    const values = ["aria-valuemin", "aria-valuenow", "aria-valuemax", "aria-valuetext"];
    assert.deepEqual(await attributesOf(bar, ...values), ["0", "0", "2", "Log in to your bank: In progress"]);
    const said = page.locator("basiq-job-progress .said");
    assert.deepEqual(await attributesOf(said, "role", "aria-live"), ["status", "polite"]);
    relay.tell(progress("awaiting-user", ["success", "in-progress"]), asked());
    await reach(page, "needs-user");
    await inside(page, "eta").getByText(/^1:\d\d left to answer$/).waitFor();
    await said.getByText("One more step for your bank. Your bank asks").waitFor({ state: "attached" });
    assert.deepEqual(await attributesOf(bar, ...values), ["0", "1", "2", "Security check: In progress"]);
    const answer = page.getByRole("button", { name: "Answer your bank" });
    await answer.focus();
    await page.keyboard.press("Enter");
    assert.equal(await told(page), "needs-user action");
    relay.tell(progress("watching", ["success", "success"]));
    await reach(page, "running");
    assert.equal(await answer.isVisible(), false);
    relay.tell(event("success", "none", { sequence: 2, userMessage: "Everything worked." }));
    await reach(page, "success");
    await inside(page, "message").getByText("Everything worked.").waitFor();
    assert.equal(await told(page), "needs-user action settled");
    await until("the stream is closed", () => relay.open.size === 0, 5);
    assert.equal(relay.asked.length, 1);
    await page.context().close();
  });

  test("each action has its button; what a newer relay asks is for support", async () => {
    const page = await open({});
    for (const [action, name] of [
      ["resubmit-credentials", "Enter the login again"],
      ["resolve-at-bank", "I have done it, try again"],
      ["reauthorise", "Connect again"],
      ["provide-statement", "Choose another statement"],
      ["retry", "Try again"],
      ["contact-support", "Contact support"],
      ["fix-request", "Contact support"],
      ["dance", "Contact support"],
      ["toString", "Contact support"],
      ["none", undefined],
    ]) {
      await page.evaluate((url) => (document.querySelector("basiq-job-progress").streamUrl = url), stream([event("failed", action)]).url);
      await page.waitForFunction((action) => document.querySelector("basiq-job-progress").snapshot.event?.action === action, action);
      const button = page.getByRole("button");
      assert.equal(await button.count(), name ? 1 : 0, action);
      if (!name) continue;
      assert.equal(await button.textContent(), name);
      await button.click();
      const detail = await page.evaluate(() => window.told.at(-1)[1]);
      assert.equal(detail.event.action, action);
    }
    await page.context().close();
  });

  test("a retry waits for its time, by the clock of the relay", async () => {
    const page = await open({ "stream-url": stream([event("failed", "retry", { retryAt: inSeconds(3700) })]).url });
    const button = page.getByRole("button");
    await button.getByText(/^Try again in 6[01]:\d\d$/).waitFor();
    await button.click({ force: true });
    assert.equal(await told(page), "settled", "not yet");
    await page.evaluate(() => (document.querySelector("basiq-job-progress").clockOffset = 3_700_000));
    await page.getByRole("button", { name: "Try again", exact: true }).click();
    assert.equal(await told(page), "settled action");
    await page.context().close();
  });

  test("nothing from the network is taken for HTML, and garbage changes nothing", async () => {
    const relay = stream([["progress", { steps: [{ title: HOSTILE, status: HOSTILE }], state: HOSTILE }]]);
    const page = await open({ "stream-url": relay.url, bank: HOSTILE });
    await inside(page, "step-name").getByText("<img src=x").waitFor();
    relay.tell(["progress", "{"], ["job.failed", "[]"], ["job.odd", { status: {}, action: 5 }], [HOSTILE.split("\n")[0], {}]);
    await page.waitForFunction(() => window.told.length === 2);
    await reach(page, "running");
    relay.tell(event("failed", HOSTILE, { userMessage: HOSTILE, sequence: 5, challenge: { description: HOSTILE } }));
    await reach(page, "failed");
    assert.equal(await inside(page, "message").textContent(), HOSTILE);
    assert.equal(await page.locator("basiq-job-progress img, basiq-job-progress script").count(), 0);
    assert.equal(await page.title(), "Progress");
    assert.equal(await told(page), "error error settled");
    await page.context().close();
  });

  test("own content takes the place of the button, own labels that of texts, own colours that of colours", async () => {
    const page = await open({ "stream-url": stream([event("failed", "retry")]).url, class: "themed", bank: "Hooli" });
    const style = (part, name) => inside(page, part).evaluate((element, name) => getComputedStyle(element)[name], name);
    await reach(page, "failed");
    assert.equal(await style("action", "backgroundColor"), "rgb(90, 20, 120)");
    await page.evaluate(() => {
      const element = document.querySelector("basiq-job-progress");
      element.labels = { failed: "No luck with {bank}", "step-starting": "Warming up" };
      element.append(Object.assign(document.createElement("a"), { slot: "action", href: "#help", textContent: "Help me" }));
    });
    await inside(page, "title").getByText("No luck with Hooli").waitFor();
    await page.getByText("Warming up").waitFor();
    assert.equal(await page.getByRole("link", { name: "Help me" }).isVisible(), true);
    assert.equal(await inside(page, "action").isVisible(), false);
    assert.equal(await style("title", "letterSpacing"), "3px");
    assert.equal(await page.locator("basiq-job-progress [style]").count(), 1, "only the length of the bar, set by script");
    await page.context().close();
  });

  test("it speaks the language of the page, from right to left where that is so", async () => {
    const page = await open({ "stream-url": stream(PHASES.running()).url, bank: "Hooli", heading: "1" });
    for (const [lang, words, dir] of [
      ["zh-CN", "正在连接 Hooli", "ltr"],
      ["vi", "Đang kết nối với Hooli", "ltr"],
      ["ar-EG", "جارٍ الربط مع \u2068Hooli\u2069", "rtl"],
      ["de", "Connecting to Hooli", "ltr"],
    ]) {
      await page.evaluate((lang) => (document.querySelector("basiq-job-progress").lang = lang), lang);
      await page.getByText(words, { exact: true }).waitFor();
      assert.equal(await inside(page, "base").evaluate((base) => getComputedStyle(base).direction), dir);
      await check(page, `progress-${lang}`);
      await shoot(page, `progress-running-${lang}`);
    }
    await page.context().close();
  });

  test("it works inside the shadow root of another element, and its events leave that", async () => {
    const page = await open({});
    await page.evaluate((url) => {
      const root = document.querySelector("main").appendChild(document.createElement("div")).attachShadow({ mode: "open" });
      const element = document.createElement("basiq-job-progress");
      element.streamUrl = url;
      root.append(element);
    }, stream([event("failed", "retry")]).url);
    await reach(page, "failed");
    await page.getByRole("button", { name: "Try again" }).click();
    assert.equal(await told(page), "settled action");
    await page.context().close();
  });

  test("nothing moves for those who asked for that", async () => {
    const page = await open({ "stream-url": stream(PHASES.running()).url }, { reducedMotion: "reduce" });
    await reach(page, "running");
    const moving = () => page.evaluate(() => document.querySelector("basiq-job-progress").shadowRoot.getAnimations().length);
    assert.equal(await moving(), 0);
    await page.emulateMedia({ reducedMotion: "no-preference" });
    assert.ok((await moving()) > 0);
    await page.context().close();
  });

  test("a stream is closed with its element, kept when it moves, and opened again when it comes back", async () => {
    const relay = stream(PHASES.running());
    const page = await open({ "stream-url": relay.url });
    await reach(page, "running");
    await page.evaluate(() => {
      window.kept = document.querySelector("basiq-job-progress");
      document.body.append(window.kept);
    });
    await page.waitForTimeout(300);
    assert.deepEqual([relay.open.size, relay.asked.length], [1, 1]);
    await page.evaluate(() => window.kept.remove());
    await until("the stream is closed", () => relay.open.size === 0, 5);
    await page.evaluate(() => document.body.append(window.kept));
    await reach(page, "running");
    assert.equal(relay.asked.length, 2);
    await page.context().close();
  });

  test("an address that is too old is replaced, and without another one the page says so", async () => {
    const [old, fresh] = [stream([], 401), stream(PHASES.running())];
    const page = await open({});
    // as frameworks do: properties in any order
    await page.evaluate(([old, fresh]) => {
      const element = document.querySelector("basiq-job-progress");
      element.refresh = async () => ({ streamUrl: fresh });
      element.streamUrl = old;
    }, [old.url, fresh.url]);
    await reach(page, "running");
    assert.deepEqual([old.asked.length, fresh.asked.length], [1, 1]);
    const alone = await open({ "stream-url": old.url, heading: "1" });
    await alone.getByText("The progress cannot be shown any more.").waitFor();
    assert.equal(await told(alone), "error");
    assert.equal(await inside(alone, "step-in-progress").count(), 0, "nothing goes on");
    await check(alone, "progress-gone");
    await shoot(alone, "progress-gone");
    for (const each of [page, alone]) await each.context().close();
  });

  test("a watch that was opened elsewhere is shown, and not closed", async () => {
    const relay = stream(PHASES.running());
    const page = await open({});
    await page.evaluate(async (url) => {
      const { watchJob } = await import("/index.js");
      window.watch = watchJob({ streamUrl: url });
      document.querySelector("basiq-job-progress").watch = window.watch;
    }, relay.url);
    await reach(page, "running");
    await page.evaluate(() => document.querySelector("basiq-job-progress").remove());
    await page.waitForTimeout(200);
    await page.evaluate(() => {
      const element = document.createElement("basiq-job-progress");
      document.body.append(element);
      element.watch = window.watch;
      element.watch = null;
    });
    await page.waitForTimeout(200);
    assert.deepEqual([relay.open.size, await page.evaluate(() => window.watch.closed)], [1, false]);
    await page.context().close();
  });
});

test("the browser had nothing to complain about", () => {
  assert.deepEqual(eyes.complaints, []);
});
