// Uses the console as an operator does: by mouse, by keyboard, on a phone, in the dark, without JavaScript.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";

import { Eyes, check, shoot } from "./eyes.mjs";
import { ADMIN_TOKEN, HOSTILE, Scenes, until } from "./scenes.mjs";

const PHONE = { viewport: { width: 375, height: 812 }, hasTouch: true, isMobile: true };

let scenes, eyes;

before(async () => {
  scenes = await Scenes.set();
  eyes = await Eyes.open([scenes.url]);
});

after(async () => {
  await eyes?.close();
  await scenes?.stop();
});

/** A page of a browser that nobody is logged in to. */
const open = (options) => eyes.page(options);

let cookies;

/** Logs in, once: after that browsers are given the session, for log-ins are few a minute. */
async function logIn(page) {
  if (cookies) await page.context().addCookies(cookies);
  await page.goto("/console");
  if (cookies) return;
  await page.getByLabel("Admin token").fill(ADMIN_TOKEN);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL("/console");
  cookies = await page.context().cookies();
}

const state = (page) => page.locator(".head .badge");

async function pages() {
  return {
    overview: "/console",
    "overview-week": "/console?span=week",
    comparison: "/console/comparison?span=day",
    watches: "/console/watches",
    "watches-delayed": "/console/watches?state=delayed",
    "watches-found": "/console/watches?q=127.0.0.3",
    "watches-none": "/console/watches?q=nothing-of-this-name",
    watch: `/console/watches/${scenes.settled.id}`,
    "watch-dead": `/console/watches/${scenes.dead.id}`,
    "watch-delayed": `/console/watches/${scenes.delayed.id}`,
    "deliveries-dead": "/console/deliveries",
    "deliveries-pending": "/console/deliveries?state=pending",
    "deliveries-delivered": "/console/deliveries?state=delivered",
    "deliveries-filtered": "/console/deliveries?client=lender&code=404",
    redelivery: "/console/deliveries/redeliver",
    "watches-filtered": "/console/watches?host=127.0.0.3&from=2026-01-01",
    "watches-beginning": "/console/watches?q=127.0.0.",
    hosts: "/console/hosts",
    clients: "/console/clients",
    audit: "/console/audit",
    "audit-found": "/console/audit?operator=admin&act=logged-in",
    "audit-none": "/console/audit?operator=nobody",
    nothing: "/console/nothing",
  };
}

test("nobody gets in without the token", async () => {
  const page = await open();
  await page.goto("/console/watches?state=delayed");
  await shoot(page, "login");
  await check(page, "login");
  await page.getByLabel("Admin token").fill("a guess");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  await check(page, "login-refused");
  await shoot(page, "login-refused");
  await page.getByLabel("Admin token").fill(ADMIN_TOKEN);
  await page.keyboard.press("Enter");
  await page.waitForURL("/console/watches?state=delayed");
  const [cookie] = await page.context().cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === "Strict" && cookie.path === "/console");
  assert.ok(!cookie.value.includes(ADMIN_TOKEN));
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("/console/login");
  await page.goto("/console");
  await page.waitForURL("/console/login");
  await page.context().close();
});

test("what the relay did is drawn without a reload, and is there as a table", async () => {
  const page = await open();
  await logIn(page);
  await page.evaluate(() => (window.loadedOnce = true));
  // counts are stored twice a minute
  const charts = page.locator("figure.chart svg");
  await charts.first().waitFor({ timeout: 45_000 });
  assert.ok(await page.evaluate(() => window.loadedOnce), "the page was loaded anew");
  assert.equal(await charts.count(), 4);
  const attempts = page.getByRole("img", { name: /^Attempts to deliver, the last hour \d+ accepted, \d+ failed/ });
  await attempts.waitFor();
  // what was drawn stays within the place of the drawing
  const outside = await page.evaluate(() =>
    [...document.querySelectorAll("figure.chart svg path")].filter((path) => {
      const [drawn, place] = [path, path.ownerSVGElement].map((one) => one.getBoundingClientRect());
      return drawn.top < place.top - 2 || drawn.bottom > place.bottom + 2 || drawn.right > place.right + 2;
    }).length,
  );
  assert.equal(outside, 0);
  await page.getByText("The same numbers as a table").click();
  const numbers = page.getByRole("region", { name: "The numbers of the charts" });
  await numbers.getByRole("columnheader", { name: "Failed calls" }).waitFor();
  assert.ok((await numbers.getByRole("row").count()) > 1);
  await check(page, "overview-numbers");
  await shoot(page, "overview-numbers");
  await page.getByRole("link", { name: "Last week" }).click();
  await page.waitForURL("/console?span=week");
  await page.getByRole("link", { name: "By bank, host and client" }).click();
  await page.waitForURL("/console/comparison?span=week");
  const hosts = page.getByRole("table", { name: /^By callback host/ });
  await hosts.getByRole("row", { name: /127\.0\.0\.3 0 / }).waitFor();
  await page.context().close();
});

for (const [how, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", PHONE],
]) {
  test(`every page is readable and accessible: ${how}`, async () => {
    const page = await open(options);
    await logIn(page);
    const asking = await scenes.asking();
    const all = { "watch-asking": `/console/watches/${asking.id}`, ...(await pages()) };
    for (const [name, path] of Object.entries(all)) {
      await page.goto(path);
      await shoot(page, `${name}-${how}`);
      await check(page, `${name}-${how}`);
    }
    if (how === "phone") await tapTargets(page);
    await page.context().close();
  });
}

async function tapTargets(page) {
  for (const path of ["/console", "/console/deliveries", "/console/clients"]) {
    await page.goto(path);
    const small = await page.evaluate(() => {
      const targets = [...document.querySelectorAll("button, summary, input:not([type=hidden]), select, nav a, th a")];
      const seen = targets.filter((target) => target.checkVisibility());
      const heights = seen.map((target) => [target.outerHTML, target.getBoundingClientRect().height]);
      return heights.filter(([, height]) => height < 43.5);
    });
    assert.deepEqual(small, [], path);
  }
}

test("what a callback answers is text, whatever it says", async () => {
  const page = await open();
  await logIn(page);
  await page.goto(`/console/watches/${scenes.dead.id}`);
  await page.getByText("The answer begins").first().click();
  await page.getByText(HOSTILE).first().waitFor();
  assert.match(await page.title(), /^Job /);
  await shoot(page, "watch-hostile");
  await page.context().close();
});

test("a search finds by job, connection, person, host and watch", async () => {
  const page = await open();
  await logIn(page);
  const { userId, connectionId } = scenes.context;
  for (const text of [scenes.settled.jobId, connectionId, userId, "127.0.0.1"]) {
    await page.goto("/console/watches");
    await page.getByRole("searchbox").fill(text);
    await page.getByRole("button", { name: "Find" }).click();
    await page.getByRole("link", { name: scenes.settled.jobId }).waitFor();
  }
  await page.getByRole("searchbox").fill(scenes.settled.id);
  await page.keyboard.press("Enter");
  await page.waitForURL(`/console/watches/${scenes.settled.id}`);
  await page.context().close();
});

test("a filter by bank finds what it finds, and no more", async () => {
  const page = await open();
  await logIn(page);
  const { institutionId } = scenes.context;
  assert.ok(institutionId);
  await page.goto(`/console/watches?bank=${institutionId}`);
  await page.getByRole("link", { name: scenes.settled.jobId }).waitFor();
  await page.goto("/console/watches?bank=AU99999");
  await page.getByText("None passes the filter").waitFor();
  await page.context().close();
});

test("a watch is seen to settle without a reload, and rests when nobody looks", async () => {
  const page = await open();
  await logIn(page);
  const { job } = await scenes.connect("gavinBelson", "hooli2016");
  const watch = await scenes.watch("shop", job, scenes.good.url);
  await page.goto(`/console/watches/${watch.id}`);
  await page.evaluate(() => (window.loadedOnce = true));
  assert.equal(await state(page).textContent(), "watching");
  await shoot(page, "watch-running");
  await page.locator(".head .badge", { hasText: "settled" }).waitFor({ timeout: 30_000 });
  await page.getByText("Attempt 1 to deliver event 1").waitFor();
  assert.ok(await page.evaluate(() => window.loadedOnce), "the page was loaded anew");
  // once nothing can change any more, nothing is asked
  await page.waitForTimeout(2500);
  let asked = 0;
  page.on("request", () => (asked += 1));
  await page.waitForTimeout(5000);
  assert.equal(asked, 0);
  await page.context().close();
});

test("a dead delivery is redelivered and seen to arrive", async () => {
  const page = await open();
  await logIn(page);
  await page.goto("/console/deliveries");
  await page.evaluate(() => (window.loadedOnce = true));
  const row = page.getByRole("row", { name: scenes.dead.jobId });
  await row.waitFor();
  scenes.wrong.answer = [204, ""];
  await row.getByRole("button").click();
  await page.getByRole("status").getByText("Queued: it is sent again now").waitFor();
  await shoot(page, "redelivered");
  await row.waitFor({ state: "detached" });
  assert.ok(await page.evaluate(() => window.loadedOnce), "the page was loaded anew");
  await page.goto(`/console/watches/${scenes.dead.id}`);
  await page.getByText("delivered", { exact: true }).waitFor();
  await shoot(page, "watch-redelivered");
  await page.getByRole("button", { name: "Redeliver" }).click();
  await page.getByRole("status").getByText("Queued").waitFor();
  await page.context().close();
});

test("all that died is redelivered at once", async () => {
  const page = await open();
  await logIn(page);
  await page.goto("/console/deliveries");
  await until("a delivery is dead", async () => (await scenes.admin("/deliveries")).length);
  await page.getByText("Filter").click();
  await page.getByLabel("Callback host").fill("127.0.0.3");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.waitForURL("**/deliveries?*host=127.0.0.3*");
  await page.getByRole("link", { name: "Redeliver all of these" }).click();
  const heading = await page.getByRole("heading", { level: 1 }).textContent();
  const [, count] = heading.match(/^Send (\d+) deliver(?:y|ies) again\?$/);
  await shoot(page, "redeliver-all");
  await check(page, "redeliver-all");
  await page.getByRole("button", { name: "again" }).click();
  const queued = count === "1" ? "1 delivery is queued" : `${count} deliveries are queued`;
  await page.getByRole("status").getByText(queued).waitFor();
  assert.equal(await page.getByLabel("Callback host").inputValue(), "127.0.0.3");
  await page.context().close();
});

test("a host is paused and resumed by hand, and the panel closes", async () => {
  const page = await open();
  await logIn(page);
  await page.goto("/console/hosts");
  await page.locator("summary", { hasText: "Pause a host" }).click();
  await page.getByLabel("Host of callbacks").fill("quiet.example");
  await shoot(page, "host-pause");
  await check(page, "host-pause");
  await page.getByRole("button", { name: "Pause this host" }).click();
  const row = page.getByRole("row", { name: "quiet.example" });
  await row.getByText("admin").waitFor();
  await page.getByRole("button", { name: "Pause this host" }).waitFor({ state: "hidden" });
  await shoot(page, "host-paused");
  await check(page, "host-paused");
  await row.getByRole("button", { name: "Resume" }).click();
  await row.waitFor({ state: "detached" });
  await page.getByRole("status").getByText("Resumed").waitFor();
  await page.context().close();
});

test("ids and texts are copied, and times are shown in the local zone as well", async () => {
  const page = await open({ timezoneId: "Australia/Sydney" });
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await logIn(page);
  await page.goto(`/console/watches/${scenes.dead.id}`);
  const copied = () => page.evaluate(() => navigator.clipboard.readText());
  await page.getByRole("button", { name: "Copy: Watch" }).click();
  assert.equal(await copied(), scenes.dead.id);
  await page.getByText("As curl").click();
  await page.getByRole("button", { name: "Copy: As curl" }).click();
  const curl = await copied();
  assert.ok(curl.startsWith(`curl -X POST '${scenes.wrong.url}'`), curl);
  assert.ok(!/signature|whsec_/.test(curl), curl);
  const [time] = await page.locator("time").all();
  const local = await time.getAttribute("data-local");
  const at = new Date(await time.getAttribute("datetime"));
  const wall = at.toLocaleTimeString("en-GB", { timeZone: "Australia/Sydney" });
  assert.ok(local.includes(wall), `${local}, ${wall}`);
  assert.match(await page.locator("footer").textContent(), /All times are UTC; .*Australia\/Sydney/);
  await check(page, "watch-local");
  await page.context().close();
});

test("everything is reached by keyboard, and it is seen where one is", async () => {
  const page = await open();
  await logIn(page);
  const focused = () =>
    page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      const text = document.activeElement.textContent.trim();
      return { text, seen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
    });
  const tabTo = async (text) => {
    for (let n = 0; n < 60; n += 1) {
      await page.keyboard.press("Tab");
      const { text: here, seen } = await focused();
      assert.ok(seen, `it cannot be seen that the focus is on ${here}`);
      if (here.startsWith(text)) return;
    }
    assert.fail(`no way to ${text}`);
  };
  await page.goto("/console");
  await tabTo("Skip to the content");
  await shoot(page, "keyboard");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  const { job } = await scenes.connect("richard", "tabsnotspaces", "AU00002");
  await scenes.watch("lender", job, scenes.good.url);
  await page.goto("/console");
  await tabTo("Watches");
  await page.keyboard.press("Enter");
  await page.waitForURL("/console/watches");
  await tabTo(job);
  await page.keyboard.press("Enter");
  await page.waitForURL("/console/watches/wch_*");
  await tabTo("Cancel…");
  await page.keyboard.press("Enter");
  // what is open and where the focus is survive what is live
  await page.waitForTimeout(4500);
  assert.equal((await focused()).text, "Cancel…");
  await shoot(page, "watch-cancel");
  await tabTo("Cancel this watch");
  await page.keyboard.press("Enter");
  await page.getByRole("status").getByText("Cancelled: nothing more is posted").waitFor();
  assert.equal(await state(page).textContent(), "cancelled");
  await page.context().close();
});

test("a client is added, rotated and revoked", async () => {
  const page = await open();
  await logIn(page);
  await page.goto("/console/clients");
  await page.getByLabel("Name of a new client").fill("no such name!");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  await check(page, "client-refused");
  await page.getByLabel("Name of a new client").fill("books");
  await page.getByRole("button", { name: "Add client" }).click();
  await page.getByText("brk_").waitFor();
  await shoot(page, "client-added");
  await check(page, "client-added");
  await page.getByRole("link", { name: "back to the clients" }).click();
  const row = page.getByRole("row", { name: "books" });
  await row.getByText("New secret").click();
  await shoot(page, "client-rotate");
  await check(page, "client-rotate");
  await row.getByRole("button", { name: "Make a new signing secret" }).click();
  await page.getByText("whsec_").waitFor();
  await page.goto("/console/clients");
  await row.getByText("Retire old secret").click();
  await row.getByRole("button", { name: "Retire" }).click();
  await page.getByRole("status").getByText("signs no more").waitFor();
  await row.getByText("Revoke").first().click();
  await row.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("status").getByText("Revoked").waitFor();
  await page.context().close();
});

test("it works without JavaScript", async () => {
  const page = await open({ javaScriptEnabled: false });
  await logIn(page);
  await page.getByRole("link", { name: "Watches" }).click();
  await page.getByRole("link", { name: scenes.dead.jobId }).click();
  await page.getByRole("button", { name: "Redeliver" }).click();
  await page.getByText("Queued: it is sent again now").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("/console/login");
  await page.context().close();
});

test("a session that ended leads to the log-in, also from a page that is live", async () => {
  const page = await open();
  await logIn(page);
  await page.context().clearCookies();
  await page.waitForURL("/console/login", { timeout: 10_000 });
  await page.context().close();
});

test("a page says when the relay does not answer, and when it does again", async () => {
  const page = await open();
  await logIn(page);
  await page.route("**/console?span=*", (route) => route.abort());
  await page.getByText("The relay does not answer.").waitFor();
  await shoot(page, "offline");
  await page.unroute("**/console?span=*");
  await page.getByText("The relay does not answer.").waitFor({ state: "hidden" });
  await page.context().close();
});

test("browsers had nothing to complain about", () => {
  // one test has calls fail on purpose
  assert.deepEqual(eyes.complaints.filter((text) => !text.includes("Failed to fetch")), []);
});
