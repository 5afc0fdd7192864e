// Makes console.png and demo.svg beside this file; `docs/images/make` sets up for it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { statSync, writeFileSync } from "node:fs";

import { Eyes } from "../../tests/browser/eyes.mjs";
import { ADMIN_TOKEN, BINARY, Scenes } from "../../tests/browser/scenes.mjs";

const HERE = new URL(".", import.meta.url).pathname;
const COLUMNS = 110;
/** README.md is read on slow connections too. */
const MOST_BYTES = 150_000;

async function takeConsole() {
  const scenes = await Scenes.set();
  const eyes = await Eyes.open([scenes.url]);
  try {
    const page = await eyes.page({ viewport: { width: 1180, height: 1230 }, colorScheme: "light" });
    await page.goto("/console");
    await page.getByLabel("Admin token").fill(ADMIN_TOKEN);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.waitForURL("/console");
    // the upper part, with the charts
    await page.screenshot({ path: `${HERE}console.png` });
  } finally {
    await eyes.close();
    await scenes.stop();
  }
}

/** The lines that the demo writes to a terminal, without the spinner's. */
function runDemo() {
  const command = `stty cols ${COLUMNS} rows 50; exec "${BINARY}" demo`;
  const env = { PATH: process.env.PATH, TERM: "xterm-256color" };
  const written = execFileSync("script", ["-qec", command, "/dev/null"], { env, encoding: "utf8" });
  const lines = written.split("\n").map((line) => line.replace(/\r+$/, "").split("\r\x1b[K").at(-1));
  assert.match(written, /12 of 12 scenarios ended as documented/);
  return lines;
}

/** The head, the first event of each action, and the closing table: the whole is as long as it is repetitive. */
function shorten(lines) {
  const isEvent = (line) => /^(\x1b\[\d+m)*\d\d:\d\d:\d\d/.test(line);
  const closing = lines.findIndex((line) => /^(\x1b\[\d+m)*ok/.test(line));
  const shown = ["$ basiq-relay demo"];
  const actions = new Set();
  let isShown = true;
  for (const line of lines.slice(0, closing)) {
    if (isEvent(line)) {
      const action = /\x1b\[1m([a-z-]+)\x1b\[0m/.exec(line)?.[1];
      isShown = action !== undefined && !actions.has(action);
      if (action) actions.add(action);
    }
    if (isShown) shown.push(line);
  }
  assert.ok(actions.size > 6, `the demo shows few actions: ${[...actions]}`);
  return [...shown, "⋮", "", ...lines.slice(closing)];
}

const COLOURS = { 1: "#ffffff", 2: "#8b949e", 31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 36: "#76e3ea" };
const FOREGROUND = "#d0d7de";
const [CELL, LINE, PAD] = [7.8, 18, 16];

// A colour goes on from line to line until another one begins, as in a terminal.
let colour = FOREGROUND;

const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** One line as texts of one colour each; `textLength` keeps the columns, whatever the reader's font. */
function texts(line, y) {
  let [x, drawn] = [0, ""];
  for (const part of line.split(/(\x1b\[[\d;]*m)/)) {
    const code = /^\x1b\[([\d;]*)m$/.exec(part);
    if (code) {
      colour = COLOURS[code[1]] ?? FOREGROUND;
      continue;
    }
    const text = part.trimEnd();
    const indent = text.length - text.trimStart().length;
    if (text.trim()) {
      const at = (PAD + (x + indent) * CELL).toFixed(1);
      const length = (text.trim().length * CELL).toFixed(1);
      drawn += `<text x="${at}" y="${y}" fill="${colour}" textLength="${length}">${escape(text.trim())}</text>\n`;
    }
    x += part.length;
  }
  return drawn;
}

function draw(lines) {
  while (lines.at(-1) === "") lines.pop();
  const [width, height] = [Math.ceil(COLUMNS * CELL + 2 * PAD), lines.length * LINE + 2 * PAD];
  const body = lines.map((line, at) => texts(line, PAD + 13 + at * LINE)).join("");
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>The demo in a terminal: one event of each action, and the closing table with 12 of 12 scenarios</title>
<style>text { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
${body}</svg>
`;
}

writeFileSync(`${HERE}demo.svg`, draw(shorten(runDemo())));
await takeConsole();
for (const name of ["console.png", "demo.svg"]) {
  const { size } = statSync(HERE + name);
  assert.ok(size < MOST_BYTES, `${name} has ${size} bytes; README.md shows pictures of at most ${MOST_BYTES}`);
  console.log(`docs/images/${name}: ${size} bytes`);
}
