// Every method in a browser: trained on two tasks, asked, saved, brought back, exported; and offered by the page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { METHODS, RULES } from "../web/page/methods.js";
import { BLANK, ROOT, ready, resultsOf, settings, start, train } from "./browser.js";

const TYPES = readFileSync(path.join(ROOT, "wasm/package/eblora.d.ts"), "utf8").match(/type Method =([^;]*);/)[1].match(/[a-z-]+/g);

let browser;
let blank;
before(async () => {
  browser = await start({ extra: BLANK });
  blank = await browser.open("blank.html", { ready: false });
});
after(() => browser.close());

/** What a method has learnt of two drawn tasks, before and after it was saved and brought back. */
const twoTasks = (method) =>
  blank.evaluate(async (method) => {
    const { open } = await import("./eblora/eblora.js");
    const eblora = await open({ device: "cpu" });
    try {
      await eblora.base();
      const pixels = (task, i) => Uint8Array.from({ length: 784 }, (_, at) => (at * (task + 3) + 61 * i) % 256);
      const ids = [];
      for (const task of [0, 1]) {
        const examples = [0, 1, 2, 3, 4, 5].map((i) => ({ label: `digit ${(2 * task + i) % 4}`, pixels: pixels(task, i) }));
        ids.push((await eblora.addDrawn(`task-${task}`, examples)).id);
      }
      const learner = await eblora.learner({ method, steps: 3, batch: 4, rank: 2 });
      const fresh = await learner.predict(pixels(1, 0));
      const results = await learner.train(ids);
      const answers = await learner.predict(pixels(1, 0));
      const again = await eblora.restore(await learner.save());
      const files = method === "osf" ? [] : await learner.exportAdapters();
      return { fresh, results, answers, back: await again.results(), asked: await again.predict(pixels(1, 0)), files: files.map((f) => f.name) };
    } finally {
      eblora.close();
    }
  }, method);

test("the page, the types and the program know the same methods", async () => {
  assert.deepEqual([...Object.keys(METHODS)].sort(), [...TYPES].sort());
  const unknown = await twoTasks("no-such-method").catch((error) => error.message);
  for (const method of TYPES) assert.ok(unknown.includes(`\`${method}\``), unknown);
  assert.equal(unknown.match(/`[a-z-]+`/g).length, TYPES.length + 1, unknown);
});

for (const method of TYPES) {
  test(`${method} learns two tasks, and comes back as it was`, { timeout: 300_000 }, async () => {
    const { fresh, results, answers, back, asked, files } = await twoTasks(method);
    assert.equal(results.accuracy.length, 2);
    assert.ok(results.losses.every((losses) => losses.length === 3 && losses.every(Number.isFinite)), JSON.stringify(results.losses));
    assert.notDeepEqual(answers, fresh, "training changes an answer");
    assert.deepEqual([back.accuracy, back.losses, asked], [results.accuracy, results.losses, answers]);
    if (method !== "osf") assert.ok(files.some((name) => name.endsWith("adapter_model.safetensors")), files.join(" "));
  });
}

test("a reader chooses any two of them", { timeout: 400_000 }, async () => {
  const page = await browser.open();
  await settings(page, { tasks: 1, steps: 2, rank: 2, testImages: 10 });
  const offered = await page.locator(".learner").first().locator(".method option").allInnerTexts();
  assert.deepEqual(offered, Object.values(METHODS));
  await page.locator(".learner .method").nth(0).selectOption("replay");
  await page.locator(".learner .method").nth(1).selectOption("o-lora");
  await page.waitForFunction(() => globalThis.eblora.session.slots.map((slot) => slot.method).join() === "replay,o-lora");
  await ready(page);
  assert.deepEqual(await page.locator(".learner .rule").allInnerTexts(), [RULES.replay, RULES["o-lora"]]);
  await train(page);
  assert.deepEqual((await resultsOf(page)).map((results) => results.accuracy.length), [1, 1]);
  browser.check();
});
