// A reader's own model folder and image folder, chosen and dropped as real folders.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { answers, choose, draw, noticesOf, ready, resultsOf, settings, start, train } from "./browser.js";
import { eblora, inFolder } from "./native.js";
import { png } from "./png.js";

const CONFIG = `
model.base = "bundled"
train = { steps = 100, test_samples = 50 }
method = [{ name = "lora-ft" }]
[[task]]
name = "fashion"
train = "bundled:fashion/train"
validation = "bundled:fashion/validation"
test = "bundled:fashion/test"
`;
const SEVEN = [[[0.25, 0.2], [0.7, 0.2], [0.45, 0.85]]];

let browser;
let page;
before(async () => {
  browser = await start();
  page = await browser.open();
});
after(() => browser.close());

/** Drops a file or folder of this machine on an element, as a reader does. */
async function drop(id, file) {
  await page.evaluate((id) => document.getElementById(id).closest("details")?.setAttribute("open", ""), id);
  await page.locator(`#${id}`).scrollIntoViewIfNeeded();
  const box = await page.locator(`#${id}`).boundingBox();
  const session = await page.context().newCDPSession(page);
  const at = { x: box.x + box.width / 2, y: box.y + box.height / 2, data: { items: [], files: [file], dragOperationsMask: 1 } };
  for (const type of ["dragEnter", "dragOver", "drop"]) await session.send("Input.dispatchDragEvent", { type, ...at });
}

const baseIs = (pattern) => page.waitForFunction((pattern) => new RegExp(pattern).test(document.getElementById("base-name").innerText), pattern);

test("a model that the program wrote is the base, and knows what it had learnt", { timeout: 600_000 }, () =>
  inFolder(async (folder) => {
    const [run, model] = ["run", "my-model"].map((name) => path.join(folder, name));
    writeFileSync(path.join(folder, "run.toml"), CONFIG);
    eblora("train", "--quiet", path.join(folder, "run.toml"), `out=${JSON.stringify(run)}`);
    eblora("export", "--format", "merged", "--out", model, path.join(run, "lora-ft/adapters"));
    // Chosen by the input …
    await choose(page, "base-folder", model);
    await baseIs("my-model");
    await ready(page);
    await settings(page, { tasks: 1, steps: 2, rank: 2, testImages: 50 });
    await train(page);
    const [first] = await resultsOf(page);
    // … and it has seen clothes, as the bundled base has not.
    assert.ok(first.zeroShot[0] > 40, `fashion before any training: ${first.zeroShot[0]} %`);
    await draw(page, SEVEN);
    assert.equal((await answers(page)).length, 2);
    await page.reload();
    await ready(page);
    await baseIs("my-model");
    assert.deepEqual((await resultsOf(page))[0].accuracy, first.accuracy);
    // Back, and dropped as a folder.
    await page.evaluate(() => document.getElementById("base-bundled").click());
    await baseIs("the bundled digit model");
    await ready(page);
    await drop("base-drop", model);
    await baseIs("my-model");
    await ready(page);
    assert.equal(await noticesOf(page), "");
  }));

test("a dropped folder of images is a task", { timeout: 600_000 }, () =>
  inFolder(async (folder) => {
    const images = path.join(folder, "pets");
    for (const label of ["cat", "dog"]) {
      mkdirSync(path.join(images, label), { recursive: true });
      for (let i = 0; i < 6; i++) writeFileSync(path.join(images, label, `${i}.png`), png(28, 20 * i + (label === "cat" ? 9 : 120)));
    }
    await drop("data-drop", images);
    await page.waitForSelector("#own-tasks li");
    assert.match(await page.locator("#data-said").innerText(), /Added “pets”: .*2 labels/);
    await settings(page, { tasks: 0, steps: 2, rank: 2 });
    await train(page);
    assert.deepEqual((await resultsOf(page))[0].tasks.slice(-1), ["pets"]);
    browser.check();
  }));
