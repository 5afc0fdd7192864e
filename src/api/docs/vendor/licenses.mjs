// What the bundle of Scalar consists of, by its source map, and the licences of that.
//
//   licenses.mjs list VERSION MAP    prints a package.json with Scalar and each package in the version that was bundled
//   licenses.mjs write               prints the licences of what package.json here installed

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Whom to name where a package has no text that does. */
const OWNERS = {
  // LICENSE of github.com/scalar/scalar, which holds for all that comes from there
  "@scalar/api-reference": "Copyright (c) 2023-present Scalar",
  "@ai-sdk/provider-utils": "Copyright 2023 Vercel, Inc.",
  "@headlessui/vue": "Copyright (c) 2020 Tailwind Labs",
};

const [, , command, version, map] = process.argv;

/** Packages as `name@version`, by the folder that pnpm installed each into. */
function bundled(map) {
  const folder = /node_modules\/\.pnpm\/((?:@[^/+]+\+)?[^/@]+)@([^_/(]+)/g;
  const last = (source) => [...source.matchAll(folder)].pop();
  const found = JSON.parse(readFileSync(map, "utf8")).sources.map(last).filter(Boolean);
  return new Map(found.map(([, name, version]) => [name.replace("+", "/"), version]).sort());
}

/** The text of a package's licence, or none. */
function licenceOf(folder) {
  const names = readdirSync(folder).filter((name) => /^licen[cs]e/i.test(name));
  return names.length > 0 ? readFileSync(join(folder, names[0]), "utf8").replace(/\r/g, "").trim() : undefined;
}

const isCopyright = (line) => /^(\W*)Copyright [(©\dA-Z]/.test(line.trim());

/** A licence without its title and its lines of copyright, to find those that are the same. */
const terms = (text) =>
  text
    .split("\n")
    .filter((line) => !isCopyright(line) && !/^\W*((the )?mit|isc) license|^all rights reserved/i.test(line.trim()))
    .join(" ")
    .replace(/[\s>*]+/g, " ")
    .trim();

/** What is said of a package: whose it is, and its licence with the text. */
function read(name) {
  const folder = join("node_modules", name);
  const { version, license, author, contributors } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const text = licenceOf(folder);
  const told = text?.split("\n").filter(isCopyright).map((line) => line.trim());
  const owner = OWNERS[name] ?? `by ${author?.name ?? author ?? contributors?.[0]?.name ?? contributors?.[0] ?? "its authors"}`;
  return { title: `${name} ${version} (${license})`, license, text, owners: told?.length ? told : [owner] };
}

function write() {
  const names = Object.keys(JSON.parse(readFileSync("package.json", "utf8")).dependencies);
  const texts = { MIT: read("vue").text, "Apache-2.0": read("fuse.js").text };
  const groups = new Map();
  for (const { title, license, text = texts[license], owners } of names.map(read)) {
    if (!text) throw new Error(`${title} has no licence text, and none is known for its licence`);
    const group = groups.get(terms(text)) ?? { text, packages: [] };
    group.packages.push([title, ...owners].join("\n    "));
    groups.set(terms(text), group);
  }
  console.log("What scalar.js consists of: @scalar/api-reference, and the packages that its bundle contains. Made by");
  console.log("src/api/docs/vendor/make from the source map of the bundle and from the packages.");
  const sorted = [...groups.values()].sort((one, other) => other.packages.length - one.packages.length);
  for (const { packages, text } of sorted) {
    const rest = text.split("\n").filter((line) => !isCopyright(line)).join("\n").replace(/\n{3,}/g, "\n\n").trim();
    console.log(`\n${"=".repeat(100)}\n${packages.join("\n")}\n${"-".repeat(100)}\n${rest}`);
  }
}

if (command === "list") {
  const dependencies = { "@scalar/api-reference": version, ...Object.fromEntries(bundled(map)) };
  console.log(JSON.stringify({ private: true, dependencies }, null, 2));
} else if (command === "write" && existsSync("package.json")) {
  write();
} else {
  console.error("licenses.mjs list VERSION MAP | licenses.mjs write");
  process.exitCode = 2;
}
