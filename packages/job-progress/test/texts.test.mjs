import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { LOCALES, createTexts, nearestLocale } from "../index.js";

const SOURCE = readFileSync(new URL("../texts.js", import.meta.url), "utf8");
const KEYS = [...SOURCE.matchAll(/^ {2}"?([\w-]+)"?: "/gm)].map(([, key]) => key);
const FIRST = KEYS.slice(0, KEYS.indexOf("running", 1));

test("each language has the same texts with the same values", () => {
  assert.equal(KEYS.length, FIRST.length * LOCALES.length);
  for (const key of FIRST) {
    const values = (locale) => (createTexts(locale).text(key).match(/\{\w+\}/g) ?? []).sort().join();
    for (const locale of LOCALES) assert.equal(values(locale), values("en"), `${locale} ${key}`);
  }
});

test("the nearest language is found", () => {
  for (const [wanted, found] of [
    [["vi-VN"], "vi"],
    [["de", "ar-EG", "en"], "ar"],
    [["zh-CN"], "zh-Hans"],
    [["zh-Hans-SG"], "zh-Hans"],
    [["zh-Hant", "zh-TW"], "en"],
    [["constructor", ""], "en"],
    [[], "en"],
  ]) {
    assert.equal(nearestLocale(wanted), found, wanted.join());
  }
});

test("labels replace texts, and a value is no pattern", () => {
  const texts = createTexts("en", { running: "Now: {bank} {other}", "step-dance": "Dance" });
  assert.equal(texts.text("running", { bank: "{time} $& <b>" }), "Now: {time} $& <b> {other}");
  assert.equal(texts.text("step-dance"), "Dance");
  assert.equal(texts.text("soon"), "Nearly done");
  assert.ok(!texts.has("step-toString") && !texts.has("constructor"));
});

test("times are written as people of each language do", () => {
  assert.equal(createTexts("en").inWords(89), "89 seconds");
  assert.equal(createTexts("en").inWords(91), "2 minutes");
  assert.equal(createTexts("en").asClock(65), "1:05");
  assert.match(createTexts("ar").text("running", { bank: "Hooli" }), /\u2068Hooli\u2069/);
});
