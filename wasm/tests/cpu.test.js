// Without WebGPU: the whole way of a reader over the page, on the CPU, with the native program's numbers.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";

import { unzip } from "../web/page/zip.js";
import { WEB, answers, choose, downloaded, draw, mainThreadTasks, noticesOf, picture, ready, resultsOf, settings, start, train } from "./browser.js";
import { demo, eblora, inFolder, lossDifference } from "./native.js";

const OPTIONS = { tasks: 2, steps: 20, rank: 4, testImages: 40 };
const FLAGS = ["--steps", "20", "--rank", "4", "--test-images", "40", "--methods", "lora-ft,eblora"];
const SEVEN = [[[0.25, 0.2], [0.7, 0.2], [0.45, 0.85]]];
const ZIGZAG = [
  [[[0.2, 0.2], [0.8, 0.35], [0.2, 0.55], [0.8, 0.8]]],
  [[[0.25, 0.15], [0.75, 0.4], [0.25, 0.6], [0.8, 0.85]]],
  [[[0.2, 0.25], [0.8, 0.3], [0.25, 0.6], [0.75, 0.8]]],
];

let browser;
let page;
before(async () => {
  browser = await start();
});
after(() => browser.close());

/** The confidences of both learners for the drawing on the pad, by label. */
const confidences = () =>
  page.evaluate(async () => {
    const { session, ask } = globalThis.eblora;
    const all = await Promise.all(session.slots.map((slot) => slot.learner.predict(ask.pixels.slice())));
    return all.map((answers) => Object.fromEntries(answers.map(({ answer, confidence }) => [answer, confidence])));
  });

/** Whether two such are the same but for rounding. */
function assertSame(a, b, bound = 1e-4) {
  a.forEach((labels, i) => {
    assert.deepEqual(Object.keys(labels).sort(), Object.keys(b[i]).sort());
    for (const [label, confidence] of Object.entries(labels)) assert.ok(Math.abs(confidence - b[i][label]) <= bound, `${label}: ${confidence}, ${b[i][label]}`);
  });
}

test("the page opens on the CPU, says so and why, and can be used at once", async (t) => {
  const begun = performance.now();
  page = await browser.open("", { ready: false });
  await page.waitForFunction(() => globalThis.eblora?.session.slots.length === 2);
  const usable = performance.now() - begun;
  await ready(page);
  const whole = performance.now() - begun;
  assert.match(await page.locator("#device").innerText(), /^CPU/);
  assert.match(await page.locator("#device-note").innerText(), /WebGPU/);
  await draw(page, SEVEN);
  const said = await answers(page);
  assert.deepEqual(said, ["“digit 7”", "“digit 7”"], "the untouched base reads a drawn 7");
  const module = readFileSync(path.join(WEB, "eblora/eblora_wasm_bg.wasm"));
  const packed = gzipSync(module, { level: 9 }).length;
  t.diagnostic(`the pad answers after ${Math.round(usable)} ms, training can begin after ${Math.round(whole)} ms; module ${(packed / 1e6).toFixed(2)} MB gzipped`);
  assert.ok(packed <= 1.5e6, `${packed} bytes gzipped`);
  await picture(page, "cpu-1-fresh");
});

let learnt;
test("two tasks on both learners give the native program's numbers", async (t) => {
  await settings(page, OPTIONS);
  const begun = performance.now();
  const tasks = await mainThreadTasks(page, async () => {
    await page.click("#start");
    await page.waitForFunction(() => globalThis.eblora.session.slots.some((slot) => slot.results?.accuracy.length > 0), null, { timeout: 300_000 });
  });
  await picture(page, "cpu-2-training");
  await ready(page, 300_000);
  const over = tasks.wall.filter((ms) => ms > 50).length;
  t.diagnostic(`training: ${((performance.now() - begun) / 1000).toFixed(1)} s; main thread: the longest of ${tasks.cpu.length} tasks computed for ${tasks.cpu[0].toFixed(1)} ms and lasted ${tasks.wall[0].toFixed(0)} ms, ${over} lasted over 50 ms`);
  assert.ok(tasks.cpu.length > 100, "the trace shows the main thread");
  learnt = await resultsOf(page);
  const { methods } = await demo(...FLAGS);
  learnt.forEach((results, i) => {
    const native = methods[i];
    assert.equal(results.method, native.name);
    assert.deepEqual(results.tasks, ["fashion", "mnist-rot90"]);
    assert.deepEqual(results.zeroShot, native.zero_shot.slice(0, 2));
    assert.deepEqual(results.accuracy, native.accuracy.slice(0, 2).map((row) => row.slice(0, 2)));
    assert.ok(results.losses.every((losses) => losses.length === OPTIONS.steps));
    const difference = lossDifference(results.losses, native.loss, 2);
    t.diagnostic(`${native.name}: losses differ by ${difference.toExponential(1)}`);
    assert.ok(difference <= 1e-4, `losses of ${native.name} differ by ${difference}`);
  });
  const cells = await page.locator(".learner").nth(1).locator("td.learned").allInnerTexts();
  assert.deepEqual(cells, learnt[1].accuracy.map((row, i) => row[i].toFixed(1)));
  assert.match(await page.locator("#live").innerText(), /has learnt/);
  assert.match(await page.locator(".spectrum-words").nth(1).innerText(), /effective rank 4\.0 of 4/);
});

let adapters;
let confident;
test("adapters are PEFT folders that the native program reads, results are JSON", async () => {
  confident = await confidences();
  adapters = [];
  for (const index of [0, 1]) {
    const { name, bytes } = await downloaded(page, `export-${index}`);
    assert.equal(name, `eblora-${learnt[index].method}-adapters.zip`);
    adapters.push({ name, mimeType: "application/zip", buffer: bytes });
  }
  const files = await unzip(new Uint8Array(adapters[1].buffer));
  assert.equal(files.filter((file) => file.name.endsWith("adapter_model.safetensors")).length, 2);
  await inFolder((folder) => {
    for (const { name, bytes } of files) {
      mkdirSync(path.join(folder, path.dirname(name)), { recursive: true });
      writeFileSync(path.join(folder, name), bytes);
    }
    for (const { name } of files.filter((file) => file.name.endsWith("adapter_config.json"))) {
      assert.match(eblora("inspect", path.join(folder, path.dirname(name))), /rank|r/);
    }
  });
  const results = JSON.parse((await downloaded(page, "save-results")).bytes.toString());
  assert.deepEqual(results.learners.map((learner) => learner.results.accuracy), learnt.map((one) => one.accuracy));
});

test("a class of one's own is learnt as a third task, and the old ones are measured", async () => {
  for (const strokes of ZIGZAG) {
    await page.click("#clear");
    await draw(page, strokes);
    await page.fill("#class-name", "zigzag");
    await page.click("#add-example");
  }
  assert.equal(await page.locator("#examples li").count(), 3);
  await page.click("#teach");
  await page.waitForSelector("#taught table", { timeout: 900_000 });
  const rows = await page.locator("#taught tbody th").allInnerTexts();
  assert.deepEqual(rows, ["your drawings of zigzag", "fashion", "mnist-rot90", "old tasks, mean"]);
  learnt = await resultsOf(page);
  assert.ok(learnt.every((results) => results.accuracy.length === 3 && results.accuracy[2].length === 3));
  await draw(page, ZIGZAG[0]);
  await answers(page);
  confident.taught = await confidences();
  assert.ok(confident.taught.every((labels) => "zigzag" in labels), "the class is among the answers");
  await picture(page, "cpu-3-taught");
});

test("the work survives a reload", async () => {
  await page.reload();
  await ready(page);
  const back = await resultsOf(page);
  assert.deepEqual(back.map((r) => [r.tasks, r.accuracy, r.losses]), learnt.map((r) => [r.tasks, r.accuracy, r.losses]));
  await draw(page, ZIGZAG[0]);
  await answers(page);
  assertSame(await confidences(), confident.taught);
  assert.deepEqual(await page.locator(".now").allInnerTexts(), ["all 3 learnt", "all 3 learnt"]);
});

test("a fresh session takes the adapters and answers as before", async () => {
  const results = await downloaded(page, "save-results");
  await page.click("#ask-start-over");
  await page.click("#start-over button[value=everything]");
  await page.waitForFunction(() => document.body.dataset.state !== "idle");
  await ready(page);
  assert.deepEqual(await resultsOf(page), [null, null]);
  await page.click("#clear");
  await draw(page, SEVEN);
  await answers(page);
  const untouched = await confidences();
  for (const index of [0, 1]) {
    await choose(page, `import-${index}`, adapters[index]);
    await page.waitForFunction((i) => globalThis.eblora.session.slots[i].began, index);
  }
  await page.waitForTimeout(300);
  assert.equal(await noticesOf(page), "");
  const now = await confidences();
  assertSame(now, confident);
  assert.notDeepEqual(now, untouched);
  await choose(page, "load-results", { name: "r.json", mimeType: "application/json", buffer: results.bytes });
  await page.waitForSelector("#loaded button");
  const cells = await page.locator(".learner").nth(0).locator("td.learned").allInnerTexts();
  assert.deepEqual(cells, learnt[0].accuracy.map((row, i) => row[i].toFixed(1)));
  await page.click("#loaded button");
});

test("pause, resume and stop do what they say, and a stopped task goes on", async () => {
  await page.click("#ask-start-over");
  await page.click("#start-over button[value=everything]");
  await page.waitForFunction(() => document.body.dataset.state !== "idle");
  await ready(page);
  await settings(page, { ...OPTIONS, tasks: 1, steps: 40, testImages: 20 });
  const step = () => page.evaluate(() => Math.max(0, ...[...document.querySelectorAll(".now")].map((now) => Number(/step (\d+)/.exec(now.textContent)?.[1] ?? 0))));
  await page.click("#start");
  await page.waitForFunction(() => /step \d+/.test(document.querySelectorAll(".now")[1].textContent), null, { timeout: 180_000 });
  await page.click("#pause");
  await page.waitForTimeout(700);
  const held = await step();
  await page.waitForTimeout(700);
  assert.equal(await step(), held, "nothing moves while paused");
  assert.equal(await page.locator("#pause").innerText(), "Resume");
  await page.click("#pause");
  await page.waitForTimeout(500);
  await page.click("#stop");
  await ready(page);
  assert.ok((await resultsOf(page)).some((results) => results.accuracy.length === 0), "stopped within the task");
  await train(page);
  const [whole] = await resultsOf(page);
  const native = await demo("--steps", "40", "--rank", "4", "--test-images", "20", "--methods", "lora-ft");
  assert.equal(whole.accuracy[0][0], native.methods[0].accuracy[0][0], "the same as without a stop");
  browser.check();
});
