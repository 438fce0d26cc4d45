// Ten tasks in a row on WebGPU: the device's memory, as the pool counts it, does not grow.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { start } from "./browser.js";

let browser;
let page;
before(async () => {
  browser = await start({ webgpu: true, extra: { "blank.html": '<!doctype html><link rel="icon" href="data:,"><title>blank</title>' } });
  page = await browser.open("blank.html", { ready: false });
});
after(() => browser.close());

/** Trains `count` tiny tasks by a method: memory before, after the step of each task, at rest after all, and freed. */
const run = (method, count) =>
  page.evaluate(
    async ([method, count]) => {
      const { open } = await import("./eblora/eblora.js");
      const eblora = await open({ device: "webgpu" });
      await eblora.base();
      const before = await eblora.memory();
      const ids = [];
      for (let task = 0; task < count; task++) {
        const pixels = (i) => Uint8Array.from({ length: 784 }, (_, at) => (at * (task + 3) + 61 * i) % 256);
        const examples = [0, 1, 2, 3].map((i) => ({ label: `digit ${(task + i) % 10}`, pixels: pixels(i) }));
        ids.push((await eblora.addDrawn(`task-${task}`, examples)).id);
      }
      const learner = await eblora.learner({ method, steps: 1, batch: 2, rank: 1, testImages: 1 });
      const asked = [];
      await learner.train(ids, (progress) => progress.kind === "step" && asked.push(eblora.memory()));
      const training = await Promise.all(asked);
      const rest = await eblora.memory();
      await learner.free();
      const freed = await eblora.memory();
      eblora.close();
      return { before, training, rest, freed };
    },
    [method, count],
  );

const told = (method, { training, rest, freed }) =>
  `${method}: buffers in training ${training.map((m) => m.buffers).join(" ")}, bytes ${training.map((m) => m.bytes).join(" ")}; at rest ${rest.bytes}, freed ${freed.bytes}`;

test("LoRA-FT: ten tasks need what two need, and leave nothing", { timeout: 1_200_000 }, async (t) => {
  const memory = await run("lora-ft", 10);
  t.diagnostic(told("lora-ft", memory));
  assert.equal(memory.training.length, 10);
  assert.ok(memory.training[1].buffers > 100, "a training has buffers");
  // The first task has nothing merged yet.
  assert.ok(memory.training.slice(2).every((m) => m.buffers <= memory.training[1].buffers && m.bytes <= memory.training[1].bytes));
  assert.deepEqual([memory.rest, memory.freed], [memory.before, memory.before]);
});

test("EBLoRA: only the protected subspace is kept while it trains, and nothing after it", { timeout: 1_200_000 }, async (t) => {
  const memory = await run("eblora", 3);
  t.diagnostic(told("eblora", memory));
  assert.equal(memory.training.length, 3);
  assert.deepEqual([memory.rest, memory.freed], [memory.before, memory.before]);
  browser.check();
});
