// A real Chromium, with axe at hand, that remembers what it had to complain about.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const SHOTS = new URL("../../target/screenshots/", import.meta.url).pathname;
const WIDE = { width: 1360, height: 900 };

export class Eyes {
  /** What browsers complained about: scripts that fail, what the policy forbids, other sites. */
  complaints = [];
  #browser;
  #profile = mkdtempSync(join(tmpdir(), "chromium-"));
  #origins;

  /** Pages begin at the first of these origins, and may ask nothing of any other. */
  static async open(origins) {
    const eyes = new Eyes();
    eyes.#origins = origins;
    mkdirSync(SHOTS, { recursive: true });
    eyes.#browser = await chromium.launch({
      executablePath: "/usr/bin/chromium",
      chromiumSandbox: false,
      args: [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        `--crash-dumps-dir=${eyes.#profile}`,
      ],
    });
    return eyes;
  }

  /** A page of a browser that was never here before. */
  async page(options = {}) {
    const context = await this.#browser.newContext({ baseURL: this.#origins[0], viewport: WIDE, ...options });
    await context.addInitScript({ path: AXE });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => this.complaints.push(`${page.url()}: ${error}`));
    page.on("console", (message) => {
      // what was asked for on purpose and refused is told here too
      const refused = message.text().includes("Failed to load resource");
      if (message.type() === "error" && !refused) this.complaints.push(`${page.url()}: ${message.text()}`);
    });
    page.on("request", (request) => {
      const isOurs = this.#origins.some((origin) => request.url().startsWith(origin));
      if (!isOurs) this.complaints.push(`asked for ${request.url()}`);
    });
    return page;
  }

  async close() {
    await this.#browser.close();
    rmSync(this.#profile, { recursive: true, force: true });
  }
}

export async function shoot(page, name) {
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
}

/** What is in sight of a page that is many screens long. */
export async function shootView(page, name) {
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Faults of accessibility there must be none, except of the kinds that are tolerated. */
export async function check(page, name, tolerated = ["minor", "moderate"]) {
  const { violations } = await page.evaluate(() => axe.run(document));
  const told = violations.map((v) => {
    const places = v.nodes.map((node) => `${node.target}: ${node.failureSummary}`);
    return `${name}: ${v.impact}: ${v.id}: ${v.help}\n${places.join("\n")}`;
  });
  const grave = violations.filter(({ impact }) => !tolerated.includes(impact));
  assert.equal(grave.length, 0, told.join("\n\n"));
  for (const text of told) console.log(text);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${name}: ${wide} px too wide`);
}
