// The example of docs/embedding.md: the same text as the page, short, and it runs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { ROOT, WEB, picture, start } from "./browser.js";

let browser;
before(async () => {
  browser = await start();
});
after(() => browser.close());

const source = () => readFileSync(path.join(ROOT, "wasm/web/example.html"), "utf8");

test("the document shows the example as it is, in at most 30 lines", () => {
  const document = readFileSync(path.join(ROOT, "docs/embedding.md"), "utf8");
  assert.ok(document.includes(`\`\`\`html\n${source()}\`\`\``), "docs/embedding.md and wasm/web/example.html differ");
  assert.ok(source().trimEnd().split("\n").length <= 30);
  assert.equal(readFileSync(path.join(WEB, "example.html"), "utf8"), source(), "the built page is an old one");
});

test("the example trains, predicts and exports", { timeout: 400_000 }, async () => {
  const page = await browser.open("example.html", { ready: false });
  await page.waitForFunction(() => /(adapter_model\.safetensors: \d+ bytes[^]*){2}|error: |input: |internal: /.test(document.body.innerText), null, { timeout: 390_000 });
  const text = await page.locator("#out").innerText();
  assert.match(text, /cpu: /);
  assert.match(text, /learnt fashion\nlearnt mnist-rot90\nfashion: [\d.]+ % at the end\nmnist-rot90: [\d.]+ % at the end/);
  assert.match(text, /a black image: .+, \d+ %/);
  await picture(page, "example", {});
});

test("the bench page measures the CPU, and says why WebGPU can't be", { timeout: 400_000 }, async (t) => {
  const page = await browser.open("bench.html?run&size=256", { ready: false });
  await page.waitForFunction(() => document.getElementById("said").textContent === "done", null, { timeout: 390_000 });
  const rows = await page.locator("#rows tr").allInnerTexts();
  t.diagnostic(rows.join(" | "));
  assert.match(rows[0], /WebGPU/);
  assert.match(rows[1], /wasm, CPU.*\s[\d.]+.*\s[\d.]+.*\s[\d.]+/s);
  await picture(page, "bench", {});
  browser.check();
});
