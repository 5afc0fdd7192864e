// Packs packages/job-progress, installs it as a consumer does, and compiles that consumer against its types.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = new URL("../../", import.meta.url).pathname;
const PACKAGE = join(ROOT, "packages/job-progress");
const TSC = join(ROOT, "tests/clients/typescript/node_modules/typescript/bin/tsc");
const CODE = ["element.js", "index.js", "sse.js", "state.js", "style.js", "texts.js", "watch.js"];
const FILES = ["LICENSE", "README.md", ...CODE, "element.d.ts", "index.d.ts", "package.json"];

const home = mkdtempSync(join(tmpdir(), "basiq-job-progress-"));
const installed = join(home, "node_modules/basiq-job-progress");
const read = (path) => readFileSync(join(ROOT, path), "utf8");
let packed;

before(() => {
  const args = ["pack", "--json", "--ignore-scripts", "--offline", "--pack-destination", home, "--cache", join(home, "cache")];
  [packed] = JSON.parse(execFileSync("npm", args, { cwd: PACKAGE, encoding: "utf8" }));
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["--extract", "--file", join(home, packed.filename), "--directory", installed, "--strip-components", "1"]);
  cpSync(join(ROOT, "tests/clients/progress"), home, { recursive: true });
});

after(() => rmSync(home, { recursive: true, force: true }));

test("the package holds what is used, under the project's licence and version, and nothing else", () => {
  assert.deepEqual(packed.files.map(({ path }) => path).sort(), FILES.sort());
  const about = JSON.parse(read("packages/job-progress/package.json"));
  assert.equal(about.license, "Apache-2.0");
  assert.equal(about.dependencies, undefined);
  assert.equal(about.scripts, undefined, "nothing runs where it is installed");
  assert.equal(read("packages/job-progress/LICENSE"), read("LICENSE"));
  assert.equal(about.version, /^version = "(.+)"$/m.exec(read("Cargo.toml"))[1]);
});

test("it is as small as its README says", () => {
  const size = (names) => names.reduce((sum, name) => sum + readFileSync(join(PACKAGE, name)).length, 0);
  const zipped = gzipSync(Buffer.concat(CODE.map((name) => readFileSync(join(PACKAGE, name))))).length;
  const watchOnly = size(["sse.js", "state.js", "watch.js"]);
  const readme = read("packages/job-progress/README.md");
  const said = /(\d+) kB of source[^.]*?(\d+) kB by gzip.*?(\d+) kB/s.exec(readme).slice(1).map(Number);
  for (const [index, bytes] of [size(CODE), zipped, watchOnly].entries()) {
    const kilobytes = bytes / 1000;
    assert.ok(kilobytes <= said[index] && kilobytes > said[index] - 3, `${kilobytes} kB, and README.md says ${said[index]}`);
  }
  assert.ok(watchOnly < 20_000);
});

test("a consumer in strict TypeScript compiles against its types", () => {
  const { status, stdout } = spawnSync(process.execPath, [TSC, "--project", home], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

test("the types name what the modules export, no more and no less", async () => {
  for (const module of ["index", "element"]) {
    const types = readFileSync(join(installed, `${module}.d.ts`), "utf8");
    const named = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name);
    const exported = Object.keys(await import(pathToFileURL(join(installed, `${module}.js`))));
    assert.deepEqual(named.sort(), exported.sort(), module);
  }
});
