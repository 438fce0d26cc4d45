// The device is lost in mid-training: a message, and a way on.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { noticesOf, picture, ready, resultsOf, settings, start, train } from "./browser.js";

let browser;
before(async () => {
  browser = await start({ webgpu: true });
});
after(() => browser.close());

test("a lost device is told, what was kept is there, and the CPU goes on", { timeout: 900_000 }, async () => {
  const page = await browser.open("?device=cpu");
  await settings(page, { tasks: 1, steps: 2, rank: 2, batch: 4, testImages: 8 });
  await train(page);
  const kept = await resultsOf(page);
  await page.selectOption("#device-choice", "webgpu");
  await page.waitForFunction(() => document.body.dataset.state === "starting");
  await ready(page);
  assert.match(await page.locator("#device").innerText(), /^WebGPU/);
  assert.equal(await page.locator("#device").getAttribute("data-kind"), "software");
  assert.match(await page.locator("#device-note").innerText(), /software/i);
  assert.deepEqual((await resultsOf(page)).map((r) => r.accuracy), kept.map((r) => r.accuracy));
  await page.fill("#tasks", "2");
  await page.dispatchEvent("#tasks", "change");
  await page.click("#start");
  await page.waitForFunction(() => document.body.dataset.state === "running");
  await page.evaluate(() => globalThis.eblora.session.eblora.loseDevice());
  await page.waitForSelector("#lost", { timeout: 180_000 });
  assert.match(await noticesOf(page), /device was lost/i);
  assert.equal(await page.locator("#lost").getAttribute("role"), "alert");
  await picture(page, "lost", {});
  await page.click("#lost >> text=Go on on the CPU");
  await page.waitForFunction(() => document.body.dataset.state === "starting");
  await ready(page);
  assert.match(await page.locator("#device").innerText(), /^CPU/);
  await train(page);
  const results = await resultsOf(page);
  assert.deepEqual(results.map((r) => r.accuracy.length), [2, 2]);
  assert.deepEqual(results.map((r) => r.accuracy[0][0]), kept.map((r) => r.accuracy[0][0]));
  browser.check();
});
