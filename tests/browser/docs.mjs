// Reads the API reference and the pages of problems as a developer does: with a search, by keyboard, on a phone, in the
// dark, without JavaScript. Sends a request from the page.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";

import { Stage } from "../stage.mjs";
import { Eyes, check, shoot, shootView } from "./eyes.mjs";

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const WIDE = { viewport: { width: 1400, height: 900 } };

let stage, eyes;

before(async () => {
  stage = new Stage();
  await stage.start(["shop"]);
  eyes = await Eyes.open([stage.url]);
});

after(async () => {
  await eyes?.close();
  await stage?.stop();
});

/** A page that keeps what its policy forbade. */
async function open(options) {
  const page = await eyes.page(options);
  page.forbidden = [];
  await page.exposeFunction("tellForbidden", (what) => page.forbidden.push(what));
  await page.addInitScript(() => {
    const tell = (event) => window.tellForbidden(`${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`);
    document.addEventListener("securitypolicyviolation", tell);
  });
  return page;
}

async function close(page) {
  assert.deepEqual(page.forbidden, []);
  await page.context().close();
}

async function openReference(page, anchor = "") {
  await page.goto("about:blank");
  await page.goto(`/docs${anchor}`);
  await page.getByRole("heading", { name: "basiq-relay", exact: true }).waitFor();
}

for (const [how, options] of [
  ["light", { ...WIDE, colorScheme: "light" }],
  ["dark", { ...WIDE, colorScheme: "dark" }],
  ["phone", PHONE],
]) {
  test(`the reference is readable and accessible: ${how}`, async () => {
    const page = await open(options);
    await openReference(page, "#tag/watches/POST/watch");
    await page.getByRole("heading", { name: "Watch a job", exact: true }).waitFor();
    // the operation, its schema, and the sample with an example of its own
    await page.getByText("Basiq's id of the job.").first().waitFor();
    await page.getByText("--request POST").first().waitFor();
    await page.waitForTimeout(1000);
    await shootView(page, `docs-${how}`);
    await check(page, `docs-${how}`, ["minor"]);
    await close(page);
  });

  test(`the pages of problems are readable and accessible: ${how}`, async () => {
    const page = await open(options);
    for (const path of ["/problems", "/problems/invalid-field", "/problems/store-unavailable", "/problems/nothing"]) {
      const answer = await page.goto(path);
      assert.equal(answer.status(), path.endsWith("nothing") ? 404 : 200);
      await shoot(page, `docs${path.replaceAll("/", "-")}-${how}`);
      await check(page, `${path}-${how}`, ["minor"]);
    }
    assert.equal(await page.locator("script").count(), 0);
    await close(page);
  });
}

test("the samples are in curl, JavaScript and Python", async () => {
  const page = await open(WIDE);
  await openReference(page);
  const tabs = page.getByRole("tablist").first().getByRole("tab");
  assert.deepEqual((await tabs.allTextContents()).map((text) => text.trim()), ["Shell", "JavaScript", "Python"]);
  for (const [name, says] of [["JavaScript", "fetch("], ["Python", "requests.post("], ["Shell", "curl "]]) {
    await tabs.filter({ hasText: name }).click();
    await page.evaluate(() => (location.hash = "#tag/watches/POST/watch"));
    await page.locator("code", { hasText: says }).first().waitFor();
  }
  // what is optional is left out of a sample, and the first field of the schema comes first
  const sample = await page.locator("code", { hasText: "--request POST" }).first().textContent();
  assert.ok(!sample.includes("traceparent"), sample);
  assert.ok(sample.indexOf("jobId") < sample.indexOf("callbackUrl"), sample);
  await close(page);
});

test("a search finds a call, and the events are there", async () => {
  const page = await open(WIDE);
  await openReference(page);
  await page.keyboard.press("Control+k");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("combobox").fill("cancel");
  await dialog.getByText("Cancel a watch").waitFor();
  await shootView(page, "docs-search");
  await dialog.getByText("Cancel a watch").click();
  await page.waitForURL((url) => decodeURI(url.hash) === "#tag/watches/DELETE/watch/{watchId}");
  await page.evaluate(() => (location.hash = "#tag/events"));
  await page.getByText("A consent has ended").first().waitFor();
  await close(page);
});

test("a request from the page is answered, and its key is kept nowhere", async () => {
  const page = await open(WIDE);
  const key = stage.clients.shop.apiKey;
  const { job } = await stage.connect("gavinBelson", "hooli2016");
  const body = { jobId: job, callbackUrl: "http://127.0.0.1:9/hooks" };
  const { id } = await stage.post(stage.url, "/watch", key, body);
  await openReference(page, "#tag/watches/GET/watch");
  await page.getByRole("button", { name: /Test Request.*get \/watch\)/i }).first().click();
  const client = page.getByRole("dialog");
  await client.getByPlaceholder("Token").fill(key);
  const [request] = await Promise.all([
    page.waitForRequest((request) => new URL(request.url()).pathname === "/watch"),
    client.getByRole("button", { name: "Send", exact: false }).first().click(),
  ]);
  assert.equal(new URL(request.url()).search, "", "what is optional is sent only if somebody wants it");
  assert.equal((await request.response()).status(), 200);
  await client.getByText(id).first().waitFor();
  await shootView(page, "docs-request");
  await check(page, "docs-request", ["minor"]);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.ok(!kept.includes(key), kept);
  await page.reload();
  await page.getByRole("heading", { name: "List watches", exact: true }).waitFor();
  assert.ok(!(await page.content()).includes(key));
  await close(page);
});

test("nothing on the page leads to the makers of Scalar", async () => {
  const page = await open(WIDE);
  await openReference(page);
  const links = page.locator("a[href*='//']");
  for (const link of await links.all()) {
    const address = await link.getAttribute("href");
    const isOurs = address.startsWith(stage.url) || !(await link.isVisible());
    assert.ok(isOurs, address);
  }
  for (const text of ["Ask AI", "Generate", "Share", "Deploy", "Powered by"]) {
    for (const found of await page.getByText(text, { exact: false }).all()) {
      assert.ok(!(await found.isVisible()), await found.textContent());
    }
  }
  await close(page);
});

test("a problem leads to the calls that are answered with it", async () => {
  const page = await open(WIDE);
  await page.goto("/problems");
  await page.getByRole("link", { name: "invalid-field" }).click();
  await page.waitForURL("/problems/invalid-field");
  await page.getByRole("link", { name: "POST /watch", exact: true }).click();
  await page.waitForURL("/docs#tag/watches/POST/watch");
  await page.getByRole("heading", { name: "Watch a job", exact: true }).waitFor();
  const place = await page.getByRole("heading", { name: "Watch a job", exact: true }).boundingBox();
  assert.ok(place.y > 0 && place.y < 400, `the call is at ${place.y}`);
  await close(page);
});

test("without JavaScript the page lists the calls", async () => {
  for (const [how, options] of [["wide", WIDE], ["phone", PHONE]]) {
    const page = await eyes.page({ ...options, javaScriptEnabled: false });
    await page.goto("/docs");
    await page.getByRole("row", { name: "POST /watch Watch a job" }).waitFor();
    assert.equal(await page.getByText("Loading").count(), 0);
    await shoot(page, `docs-no-script-${how}`);
    await page.getByRole("link", { name: "the problems" }).click();
    await page.waitForURL("/problems");
    await page.context().close();
  }
});

test("browsers had nothing to complain about", () => {
  assert.deepEqual(eyes.complaints, []);
});
