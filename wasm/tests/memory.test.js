// Ten tasks in a row on WebGPU: the device's memory, as the pool counts it, does not grow.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { start } from "./browser.js";

let browser;
before(async () => {
  browser = await start({ webgpu: true, extra: { "blank.html": '<!doctype html><link rel="icon" href="data:,"><title>blank</title>' } });
});
after(() => browser.close());

test("live buffers don't grow over ten tasks, and go with their learner", { timeout: 1_200_000 }, async (t) => {
  const page = await browser.open("blank.html", { ready: false });
  const { memory, before, freed } = await page.evaluate(async () => {
    const { open } = await import("./eblora/eblora.js");
    const eblora = await open({ device: "webgpu" });
    await eblora.base();
    const before = await eblora.memory();
    const ids = [];
    for (let task = 0; task < 10; task++) {
      const examples = [0, 1, 2, 3].map((i) => ({ label: `digit ${(task + i) % 10}`, pixels: Uint8Array.from({ length: 784 }, (_, at) => (at * (task + 3) + 61 * i) % 256) }));
      ids.push((await eblora.addDrawn(`task-${task}`, examples)).id);
    }
    const learner = await eblora.learner({ method: "eblora", steps: 1, batch: 2, rank: 1, testImages: 1 });
    const memory = [];
    for (const id of ids) {
      await learner.train([id]);
      memory.push(await eblora.memory());
    }
    await learner.free();
    const freed = await eblora.memory();
    eblora.close();
    return { memory, before, freed };
  });
  t.diagnostic(`buffers: ${memory.map((m) => m.buffers).join(" ")}; bytes: ${memory.map((m) => m.bytes).join(" ")}; before ${before.bytes}, freed ${freed.bytes}`);
  // The first task makes what all need; the second has a subspace to protect for the first time.
  assert.ok(memory.slice(2).every((m) => m.buffers <= memory[1].buffers), "buffers");
  assert.ok(memory.slice(2).every((m) => m.bytes <= memory[1].bytes), "bytes");
  assert.ok(freed.buffers <= before.buffers && freed.bytes <= before.bytes, "a freed learner leaves nothing");
  browser.check();
});
