// Ten tasks in a row on WebGPU: the device's memory, as the pool counts it, does not grow.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { BLANK, start } from "./browser.js";

let browser;
let page;
before(async () => {
  browser = await start({ webgpu: true, extra: BLANK });
  page = await browser.open("blank.html", { ready: false });
});
after(() => browser.close());

/** Trains `count` tiny tasks with these options: memory before, after the step of each task, at rest after all, and freed. */
const run = (options, count) =>
  page.evaluate(
    async ([options, count]) => {
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
      const learner = await eblora.learner({ steps: 1, batch: 2, rank: 1, testImages: 1, ...options });
      const asked = [];
      await learner.train(ids, (progress) => progress.kind === "step" && asked.push(eblora.memory()));
      const training = await Promise.all(asked);
      const rest = await eblora.memory();
      await learner.free();
      const freed = await eblora.memory();
      eblora.close();
      return { before, training, rest, freed };
    },
    [options, count],
  );

const told = ({ training, rest, freed }) =>
  `buffers in training ${training.map((m) => m.buffers).join(" ")}, bytes ${training.map((m) => m.bytes).join(" ")}; at rest ${rest.bytes}, freed ${freed.bytes}`;

/** From task `from` on nothing more is asked of the device, and nothing stays. */
function assertFlat({ before, training, rest, freed }, from) {
  assert.ok(training[1].buffers > 100, "a training has buffers");
  const most = training[from];
  assert.ok(training.slice(from).every((m) => m.buffers <= most.buffers && m.bytes <= most.bytes));
  assert.deepEqual([rest, freed], [before, before]);
}

test("LoRA-FT: ten tasks need what two need, and leave nothing", { timeout: 1_200_000 }, async (t) => {
  const memory = await run({ method: "lora-ft" }, 10);
  t.diagnostic(told(memory));
  assert.equal(memory.training.length, 10);
  assertFlat(memory, 1); // the first task has nothing merged yet
});

test("EBLoRA: ten tasks need what those need that fill its subspace", { timeout: 1_200_000 }, async (t) => {
  const memory = await run({ method: "eblora", budget: 6 }, 10);
  t.diagnostic(told(memory));
  assert.equal(memory.training.length, 10);
  assertFlat(memory, 2);
});

test("EBLoRA without a bound: its subspace alone grows", { timeout: 1_200_000 }, async (t) => {
  const memory = await run({ method: "eblora" }, 4);
  t.diagnostic(told(memory));
  const [, second, third, fourth] = memory.training;
  assert.deepEqual([third.buffers, fourth.buffers], [second.buffers, second.buffers]);
  assert.ok(fourth.bytes > second.bytes, "the subspace grows");
  assert.deepEqual([memory.rest, memory.freed], [memory.before, memory.before]);
  browser.check();
});
