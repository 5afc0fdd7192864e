// Uses the example as a person does who connects a bank: by mouse, by keyboard, on a phone, in the dark, in Arabic.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Example, FOLDER } from "./example.mjs";
import { Eyes, check, shoot } from "./eyes.mjs";
import { BINARY, freePort, until } from "./scenes.mjs";

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
const DESK = { viewport: { width: 1200, height: 900 } };

let example, eyes;

before(async () => {
  example = await Example.start();
  eyes = await Eyes.open([example.url, example.relay]);
});

after(async () => {
  await eyes?.close();
  await example?.stop();
});

/** The example's first page. */
async function open(options = {}) {
  const page = await eyes.page({ ...DESK, ...options });
  await page.goto("/");
  await page.locator("button.bank").first().waitFor();
  return page;
}

/** Chooses the bank that plays a story. */
const choose = (page, story) => page.locator(`[data-bank="${story}"]`).click();

/** Waits until a connection has come that far. */
const reach = (page, phase) => page.locator(`#progress[phase="${phase}"]`).waitFor();

async function look(page, name) {
  await check(page, name);
  await shoot(page, `frontend-${name}`);
}

/** What has the focus: the title is inside the element. */
const focused = (page) => page.evaluate(() => document.activeElement.id);
const title = (page) => page.getByRole("heading", { level: 1 });
const message = (page) => page.locator('#progress [part="message"]');

async function tapTargets(page) {
  const small = await page.evaluate(() => {
    const { shadowRoot } = document.querySelector("basiq-job-progress");
    const targets = [document, shadowRoot].flatMap((root) => [...root.querySelectorAll("button, select, input, a:not(.skip)")]);
    const seen = targets.filter((target) => target.checkVisibility());
    const heights = seen.map((target) => [target.outerHTML, target.getBoundingClientRect().height]);
    return heights.filter(([, height]) => height < 43.5);
  });
  assert.deepEqual(small, []);
}

describe("people who connect a bank", { concurrency: 4 }, () => {
  test("a person learns that a consent ends soon, in the language of then, and nobody else does", async () => {
    const [page, other] = [await open(), await open()];
    await page.getByLabel("Language").selectOption("vi");
    await choose(page, "works");
    await reach(page, "success");
    assert.equal(await page.locator("#notices").isVisible(), false);
    const told = new RegExp(`${new URL(page.url()).hash.slice(1)} job\\.success {2}-> none \\(user (\\S+)\\)`);
    await until("the backend is told", () => told.test(example.printed), 5);
    const [, userId] = told.exec(example.printed);
    const order = `${example.basiq}/sandbox/users/${userId}/consents/latest/warning`;
    assert.ok((await fetch(order, { method: "POST" })).ok);
    const notice = page.locator("#notices li");
    await notice.waitFor();
    assert.equal(await notice.getAttribute("lang"), "vi");
    assert.match(await notice.textContent(), /[\u1ea0-\u1ef9]/);
    await look(page, "notice");
    await page.reload();
    await notice.waitFor();
    await other.waitForTimeout(5500);
    assert.equal(await other.locator("#notices").isVisible(), false);
  });

  test("a bank is connected, step by step, and the page says when", async () => {
    const page = await open();
    await look(page, "banks");
    await choose(page, "works");
    await reach(page, "running");
    assert.equal(await focused(page), "progress");
    await page.locator('[part~="step-in-progress"]').waitFor();
    await page.getByText(/About .* left/).waitFor();
    await look(page, "progress");
    await reach(page, "success");
    assert.equal(await focused(page), "progress");
    assert.equal(await page.locator('[part~="step-success"]').count(), 3);
    await message(page).getByText("Everything worked").waitFor();
    await look(page, "success");
    await until("the backend is told", () => /job\.success {2}-> none/.test(example.printed), 5);
    await page.getByRole("button", { name: "Connect another bank" }).click();
    await page.locator("#choose").waitFor();
    assert.equal(await focused(page), "choose-title");
    await page.context().close();
  });

  test("a code is asked for and answered, on a phone", async () => {
    const page = await open(PHONE);
    await look(page, "banks-phone");
    await choose(page, "code");
    await reach(page, "running");
    await look(page, "progress-phone");
    const code = page.getByLabel("OTP Password");
    await code.waitFor();
    assert.equal(await focused(page), "answer-0");
    assert.equal(await code.getAttribute("autocomplete"), "one-time-code");
    await page.getByText(/^\d:\d\d left to answer$/).waitFor();
    await look(page, "question-phone");
    await tapTargets(page);
    await page.getByRole("button", { name: "Send answer" }).click();
    await page.getByRole("alert").getByText("Please fill in everything.").waitFor();
    assert.equal(await code.getAttribute("aria-invalid"), "true");
    await look(page, "question-empty-phone");
    await code.fill("1234");
    // the answer is held back until the page was seen to wait
    let letGo;
    const seen = new Promise((resolve) => (letGo = resolve));
    const held = async (route) => {
      await seen;
      await route.continue();
    };
    await page.route("**/mfa", held, { times: 1 });
    await page.getByRole("button", { name: "Send answer" }).click();
    await page.getByRole("button", { name: "Checking…" }).waitFor();
    letGo();
    await reach(page, "success");
    await look(page, "success-phone");
    await page.context().close();
  });

  test("a wrong answer is told at once, and what to do after it", async () => {
    const page = await open();
    await choose(page, "code");
    const code = page.getByLabel("OTP Password");
    await code.waitFor();
    await look(page, "question");
    // some banks let a person try again: the question stays
    const refusal = { status: 422, json: { code: "mfa-refused" } };
    await page.route("**/mfa", (route) => route.fulfill(refusal), { times: 1 });
    await code.fill("9999");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("Your bank did not accept this answer.").waitFor();
    assert.equal(await focused(page), "answer-0");
    await look(page, "question-refused");
    // Basiq's sandbox does not
    await code.fill("9998");
    await page.keyboard.press("Enter");
    await reach(page, "failed");
    await message(page).getByText("security step of your bank was not completed").waitFor();
    assert.equal(await page.locator('[part~="step-failed"] [part="step-name"]').textContent(), "Security check");
    assert.equal(await focused(page), "progress");
    await look(page, "failed-answer");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByLabel("OTP Password").waitFor();
    assert.equal(await page.getByLabel("OTP Password").inputValue(), "");
    await page.context().close();
  });

  test("a bank that asks twice is answered twice, and a page loaded anew goes on where it was", async () => {
    const page = await open();
    await choose(page, "twice");
    await page.getByLabel("OTP Password").fill("1234");
    await page.keyboard.press("Enter");
    const question = page.getByLabel("What is your favourite company?");
    await question.waitFor();
    await page.reload();
    await question.waitFor();
    assert.equal(await focused(page), "answer-0");
    await question.fill("Hooli");
    await page.keyboard.press("Enter");
    await reach(page, "success");
    await page.reload();
    await reach(page, "success");
    await page.context().close();
  });

  test("a login that the bank refused is entered again", async () => {
    const page = await open();
    await choose(page, "wrong");
    await reach(page, "failed");
    await message(page).getByText("did not accept these login details").waitFor();
    await look(page, "failed-login");
    const again = page.getByRole("button", { name: "Connect again" });
    await again.click();
    await page.getByRole("alert").getByText("Please fill in everything.").waitFor();
    await page.getByLabel("Login ID").fill("gavinBelson");
    await page.getByLabel("Password").fill("hooli2016");
    await again.click();
    await reach(page, "running");
    await reach(page, "success");
    await page.context().close();
  });

  test("each failure says what happened and what to do about it", async () => {
    const details = [
      ["locked", "failed", "has locked this online account", "Open Hooli Bank"],
      ["needs-you", "failed", "do something in your internet banking first", "Open Hooli Bank"],
      ["unavailable", "failed", "could not be reached just now", "Try again in"],
      ["outage", "delayed", "a problem that affects all its customers", undefined],
    ];
    const play = async ([story, phase, words, remedy]) => {
      const page = await open();
      await choose(page, story);
      await reach(page, phase);
      await message(page).getByText(words).waitFor();
      assert.equal(await focused(page), "progress");
      await page.locator("#progress .said").getByText(words).waitFor({ state: "attached" });
      const remedies = page.locator('#progress .button.main:visible, #progress [part="action"]:visible');
      if (remedy) assert.match(await remedies.textContent(), new RegExp(`^${remedy}`));
      else assert.equal(await remedies.count(), 0);
      await look(page, `failed-${story}`);
      return page;
    };
    const [locked, needed, unavailable, outage] = await Promise.all(details.map(play));
    const [bank] = await Promise.all([locked.waitForEvent("popup"), locked.getByRole("link", { name: "Open Hooli Bank" }).click()]);
    await bank.getByRole("heading", { name: "In place of a bank" }).waitFor();
    await look(bank, "bank");
    await locked.getByRole("button", { name: "I have done it, try again" }).click();
    await reach(locked, "running");
    await unavailable.getByRole("button", { name: "Try again", exact: true }).click();
    await reach(unavailable, "running");
    await outage.getByText("You can close this page.").waitFor();
    for (const page of [locked, needed, unavailable, outage]) await page.context().close();
  });

  test("a bank that stays away is for support", async () => {
    const page = await open();
    await choose(page, "unavailable");
    for (let failure = 1; failure < 3; failure += 1) {
      await page.getByRole("button", { name: "Try again", exact: true }).click();
      await reach(page, "running");
    }
    await page.getByRole("link", { name: "Contact support" }).waitFor();
    await look(page, "failed-support");
    await page.getByRole("link", { name: "Choose another bank" }).click();
    await page.locator("#choose").waitFor();
    await page.context().close();
  });

  test("a bank that is away when a login is entered again is waited for", async () => {
    const page = await open();
    await choose(page, "wrong");
    await page.getByLabel("Login ID").fill("jianYang");
    await page.getByLabel("Password").fill("nothotdog");
    await page.keyboard.press("Enter");
    await reach(page, "delayed");
    await message(page).getByText("this will take longer than usual").waitFor();
    await look(page, "waiting");
    await page.context().close();
  });

  test("where streams do not get through, the backend tells the page what its webhooks told", async () => {
    const page = await open();
    await page.route("**/stream?**", (route) => route.abort());
    await choose(page, "code");
    const code = page.getByLabel("OTP Password");
    await code.waitFor({ timeout: 30_000 });
    await code.fill("1234");
    await page.keyboard.press("Enter");
    await page.locator('#progress[phase="success"]').waitFor({ timeout: 40_000 });
    await page.context().close();
  });

  for (const [how, options, words] of [
    ["dark", { colorScheme: "dark" }, /locked/],
    ["arabic", { locale: "ar-EG" }, /أقفل مصرفك/],
    ["chinese-phone", { ...PHONE, locale: "zh-CN" }, /锁定/],
    ["vietnamese-phone", { ...PHONE, locale: "vi-VN", colorScheme: "dark" }, /khóa/],
  ]) {
    test(`every screen is readable and accessible: ${how}`, async () => {
      const [asked, failed] = await Promise.all([open(options), open(options)]);
      await look(asked, `banks-${how}`);
      await Promise.all([choose(asked, "questions"), choose(failed, "locked")]);
      await asked.locator('[part~="step-in-progress"]').waitFor();
      await look(asked, `progress-${how}`);
      await reach(failed, "failed");
      await message(failed).getByText(words).waitFor();
      await look(failed, `failed-${how}`);
      await reach(asked, "needs-user");
      await look(asked, `question-${how}`);
      const isArabic = how === "arabic";
      assert.equal(await asked.locator("html").getAttribute("dir"), isArabic ? "rtl" : "ltr");
      for (const page of [asked, failed]) await page.context().close();
    });
  }

  test("a language is chosen, kept, and what a bank was told in another stays what it is", async () => {
    const page = await open();
    await choose(page, "locked");
    await reach(page, "failed");
    await page.getByLabel("Language").selectOption("العربية");
    assert.equal(await page.locator("html").getAttribute("dir"), "rtl");
    await page.getByRole("link", { name: /فتح/ }).waitFor();
    assert.equal(await message(page).getAttribute("lang"), "en");
    await look(page, "language");
    await page.reload();
    await page.getByRole("link", { name: /فتح/ }).waitFor();
    await page.context().close();
  });

  test("everything is done by keyboard alone, and it is seen where one is", async () => {
    const page = await open({ reducedMotion: "reduce" });
    const tabTo = async (text) => {
      for (let n = 0; n < 20; n += 1) {
        await page.keyboard.press("Tab");
        const { here, seen } = await page.evaluate(() => {
          const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
          const here = document.activeElement.textContent.trim();
          return { here, seen: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
        });
        assert.ok(seen, `it cannot be seen that the focus is on ${here}`);
        if (here.includes(text)) return;
      }
      assert.fail(`no way to ${text}`);
    };
    await tabTo("Skip to the content");
    await page.keyboard.press("Enter");
    await tabTo("Asks two questions");
    await shoot(page, "frontend-keyboard");
    await page.keyboard.press("Enter");
    await page.getByLabel("What is your favourite company?").waitFor();
    const turning = await page.evaluate(() => document.getAnimations().length);
    assert.equal(turning, 0, "what moves although it should not");
    await page.keyboard.type("Basiq");
    await page.keyboard.press("Tab");
    await page.keyboard.type("AU00000");
    await page.keyboard.press("Enter");
    await reach(page, "success");
    await tabTo("Connect another bank");
    await page.keyboard.press("Enter");
    await page.locator("#choose").waitFor();
    await page.context().close();
  });

  test("the backend takes no webhook but the relay's, and shows nobody what another has begun", async () => {
    const body = JSON.stringify({ watchId: "wch_x", type: "job.success", action: "none", context: {} });
    const post = async (secret, time) => {
      const key = Buffer.from(secret.replace("whsec_", ""), "base64");
      const signature = createHmac("sha256", key).update(`evt_1.${time}.${body}`).digest("base64");
      const headers = { "webhook-id": "evt_1", "webhook-timestamp": time, "webhook-signature": `v1,${signature}` };
      return (await fetch(`${example.url}/hooks/bank`, { method: "POST", headers, body })).status;
    };
    const now = Math.floor(Date.now() / 1000);
    const other = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
    assert.equal(await post(other, `${now}`), 401);
    assert.equal(await post(example.secret, `${now - 600}`), 401);
    assert.equal(await post(example.secret, `${now}`), 204);
    const [mine, theirs] = await Promise.all([open(), open()]);
    await choose(mine, "code");
    await reach(mine, "running");
    const { hash } = new URL(mine.url());
    await theirs.goto(`/${hash}`);
    await theirs.getByRole("alert").getByText("We do not know this connection any more").waitFor();
    await look(theirs, "gone");
    for (const page of [mine, theirs]) await page.context().close();
  });

  test("one command starts all of it with the release build, names a port that is taken, and ends it", async (t) => {
    const target = mkdtempSync(join(tmpdir(), "basiq-relay-target-"));
    t.after(() => rmSync(target, { recursive: true }));
    mkdirSync(join(target, "release"));
    symlinkSync(BINARY, join(target, "release/basiq-relay"));
    const [own, relay, basiq] = [await freePort(), await freePort(), await freePort()];
    const env = {
      PATH: process.env.PATH,
      CARGO_TARGET_DIR: target,
      FRONTEND_PORT: own,
      FRONTEND_RELAY: `http://127.0.0.1:${relay}`,
      FRONTEND_BASIQ: `http://127.0.0.1:${basiq}`,
    };
    const child = spawn(join(FOLDER, "run"), { env, stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(child, "exit");
    const answers = (port, path) => fetch(`http://127.0.0.1:${port}${path}`).then(({ ok }) => ok, () => false);
    const isOpen = (port) => fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false);
    const all = () => Promise.all([answers(own, "/"), answers(relay, "/readyz"), isOpen(basiq)]);
    try {
      await until("all of it answers", async () => (await all()).every(Boolean), 20);
      for (const [name, value] of [["FRONTEND_PORT", `${own}`], ["FRONTEND_BASIQ", env.FRONTEND_BASIQ]]) {
        const [free, other] = [await freePort(), await freePort()];
        const ports = { FRONTEND_PORT: free, FRONTEND_RELAY: `http://127.0.0.1:${other}`, [name]: value };
        const { status, stderr } = spawnSync(join(FOLDER, "run"), { env: { ...env, ...ports }, encoding: "utf8" });
        assert.equal(status, 2);
        assert.match(stderr, new RegExp(`^${name}=${value}: port \\d+ is taken`));
      }
    } finally {
      child.kill("SIGTERM");
      await ended;
    }
    assert.deepEqual(await Promise.all([own, relay, basiq].map(isOpen)), [false, false, false]);
  });
});

test("a stream that breaks is taken up again, by the same address or another", async () => {
  const page = await open();
  await choose(page, "code");
  const code = page.getByLabel("OTP Password");
  await code.fill("12");
  await example.stopRelay();
  await page.getByText("The connection to us is lost").waitFor();
  await look(page, "lost");
  await page.keyboard.type("34");
  await page.keyboard.press("Enter");
  await page.getByText("That did not work").waitFor();
  await example.startRelay();
  await page.getByText("The connection to us is lost").waitFor({ state: "hidden" });
  // nothing that was typed is lost
  assert.equal(await code.inputValue(), "1234");
  // an address that is valid no longer ends an EventSource for good
  let fresh = 0;
  page.on("request", (request) => (fresh += /\/api\/connections\/wch_\w+$/.test(request.url()) ? 1 : 0));
  await page.route("**/stream?**", (route) => route.fulfill({ status: 401 }), { times: 1 });
  await example.stopRelay();
  await example.startRelay();
  await until("another address is asked for", () => fresh > 0, 10);
  await page.getByRole("button", { name: "Send answer" }).click();
  await reach(page, "success");
  await page.context().close();
});

test("browsers had nothing to complain about", () => {
  assert.deepEqual(eyes.complaints, []);
});
