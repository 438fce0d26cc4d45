// Files that are not what they should be: one clear message each, and nothing is lost.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { zip } from "../web/page/zip.js";
import { choose, noticesOf, picture, ready, resultsOf, settings, start, train } from "./browser.js";
import { png } from "./png.js";

let browser;
let page;
let learnt;
before(async () => {
  browser = await start();
  page = await browser.open();
  await settings(page, { tasks: 1, steps: 2, rank: 2, testImages: 10 });
  await train(page);
  learnt = await resultsOf(page);
});
after(() => browser.close());

const file = (name, content, mimeType = "application/octet-stream") => ({ name, mimeType, buffer: Buffer.from(content) });
/** A folder as a zip: inputs of tests hold no folders. */
const folder = async (name, files) => file(name, Buffer.from(await zip(files).arrayBuffer()), "application/zip");
const labelled = (content) => [...Array(6).keys()].flatMap((i) => ["bag", "coat"].map((label, j) => ({ name: `${label}/${i}.png`, bytes: content(i, j) })));

/** Gives these files to an input, and waits for the one message that must come. */
async function refused(input, files, pattern) {
  await page.evaluate(() => document.querySelectorAll("#notices .close").forEach((button) => button.click()));
  await choose(page, input, files);
  await page.waitForSelector("#notices .error", { timeout: 120_000 });
  const text = await noticesOf(page);
  assert.equal(await page.locator("#notices .error").count(), 1, text);
  assert.match(text, pattern);
  assert.doesNotMatch(text, /undefined|panick|unreachable|\[object|RuntimeError/i);
  return text.split("\n")[0];
}

const CASES = [
  ["a text file", () => [file("notes.txt", "hello")], /notes\.txt|hello|file/],
  ["an empty CSV", () => [file("empty.csv", "")], /empty\.csv/],
  ["a CSV without a label", () => [file("a.csv", "image,colour\na.png,red\n"), file("a.png", png(28, 3))], /a\.csv.*label|label.*a\.csv/s],
  ["a CSV whose image is not there", () => [file("a.csv", "image,label\nb.png,bag\n")], /b\.png/],
  ["a JSONL with a broken line", () => [file("a.jsonl", '{"image":"a.png","label":"bag"}\n{"image":\n'), file("a.png", png(28, 3))], /a\.jsonl.*2|line 2/s],
  ["an image that is none", () => folder("pets.zip", labelled((i) => (i === 3 ? Buffer.from("no image") : png(28, 9)))).then((f) => [f]), /3\.png/],
  ["idx files without their labels", () => [file("x-images-idx3-ubyte", Buffer.from([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28]))], /idx|label/i],
  ["an idx file that is cut off", () => [file("train-images-idx3-ubyte", Buffer.from([0, 0, 8, 3, 0, 0])), file("train-labels-idx1-ubyte", Buffer.from([0, 0, 8, 1, 0, 0, 0, 0]))], /train-images/],
  ["an npy file that is none", () => [file("train_images.npy", "nothing"), file("train_labels.npy", "nothing")], /npy/],
  ["a damaged zip", () => [file("a.zip", "PK\x03\x04 and then no more", "application/zip")], /a\.zip is damaged or not a zip file/],
];

for (const [what, make, pattern] of CASES) {
  test(`${what} gets a clear message`, async (t) => {
    t.diagnostic(await refused("data-files", await make(), pattern));
  });
}

test("a model folder that is none gets a clear message, and the base stays", async (t) => {
  t.diagnostic(await refused("base-folder", [], /./).catch(() => "no file chosen"));
  const broken = await folder("model.zip", [{ name: "config.json", bytes: Buffer.from("{") }, { name: "model.safetensors", bytes: Buffer.from("x") }]);
  await page.evaluate(() => document.getElementById("base-folder").removeAttribute("webkitdirectory")); // a test can't choose folders
  t.diagnostic(await refused("base-folder", [broken], /config\.json/));
  assert.equal(await page.locator("#base-name").innerText(), "the bundled digit model");
});

test("adapters and results that are none get a clear message", async (t) => {
  t.diagnostic(await refused("import-0", [file("x.bin", "1")], /adapter/));
  const config = Buffer.from('{"peft_type":"LORA","r":2,"lora_alpha":2,"target_modules":["query"]}');
  const adapter = await folder("a.zip", [{ name: "adapter_config.json", bytes: config }, { name: "adapter_model.safetensors", bytes: Buffer.from("zzzzzzzzzzzzzzz") }]);
  t.diagnostic(await refused("import-1", [adapter], /adapter_model\.safetensors/));
  t.diagnostic(await refused("load-results", [file("r.json", "{")], /r\.json is not JSON/));
  t.diagnostic(await refused("load-results", [file("r.json", '{"schema":"other"}')], /holds no results/));
  t.diagnostic(await refused("load-results", [file("r.json", '{"schema":"eblora.browser-results","version":1,"learners":[{}]}')], /is damaged/));
  await picture(page, "bad-files", {});
});

test("after all of that nothing is lost, and good data is taken", async () => {
  assert.deepEqual(await resultsOf(page), learnt);
  assert.deepEqual(await page.locator("#own-tasks li").count(), 0);
  await page.evaluate(() => document.querySelectorAll("#notices .close").forEach((button) => button.click()));
  await choose(page, "data-files", [await folder("bags.zip", labelled((i, j) => png(28, 20 * i + 100 * j)))]);
  await page.waitForSelector("#own-tasks li");
  const csv = `image,label\n${[...Array(6).keys()].map((i) => `${i}.png,${i % 2 ? "bag" : "coat"}`).join("\n")}\n`;
  await page.fill("#data-name", "by-csv");
  await choose(page, "data-files", [file("list.csv", csv), ...[...Array(6).keys()].map((i) => file(`${i}.png`, png(20, 30 * i)))]);
  await page.waitForFunction(() => document.querySelectorAll("#own-tasks li").length === 2);
  assert.equal(await page.locator("#notices .error").count(), 0);
  await train(page);
  const results = await resultsOf(page);
  assert.equal(results[0].tasks.length, 3);
  assert.equal(results[0].tasks[2], "by-csv");
  await page.reload();
  await ready(page);
  assert.deepEqual((await resultsOf(page)).map((r) => r.accuracy), results.map((r) => r.accuracy));
  browser.check();
});
