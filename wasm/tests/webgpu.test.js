// On WebGPU, by SwiftShader: a tiny training agrees with the CPU path.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { BLANK, start } from "./browser.js";

// f32 sums in another order, through two steps: losses of about 3, so 1e-3 is some hundred roundings.
const BOUND = 1e-3;
const OPTIONS = { steps: 2, batch: 4, rank: 2, testImages: 8, seed: 1 };

let browser;
before(async () => {
  browser = await start({ webgpu: true, extra: BLANK });
});
after(() => browser.close());

test("a learner trained on WebGPU has the CPU's losses, spectra and answers", { timeout: 900_000 }, async (t) => {
  const page = await browser.open("blank.html", { ready: false });
  const run = (device) =>
    page.evaluate(
      async ([device, options]) => {
        const { open } = await import("./eblora/eblora.js");
        const eblora = await open({ device });
        await eblora.base();
        // Few images: the gradient of a bundled task alone takes 150 batches, seconds each.
        const examples = Array.from({ length: 16 }, (_, i) => ({
          label: `digit ${i % 4}`,
          pixels: Uint8Array.from({ length: 784 }, (_, at) => (at * (3 + (i % 4)) + 61 * i) % 256),
        }));
        const task = await eblora.addDrawn("drawn", examples);
        const out = { device: eblora.device };
        for (const method of ["lora-ft", "eblora"]) {
          const learner = await eblora.learner({ ...options, method });
          const begun = performance.now();
          const { losses, accuracy, spectra } = await learner.train([task.id]);
          const pixels = Uint8Array.from({ length: 784 }, (_, i) => (i * 37) % 256);
          out[method] = { losses, accuracy, spectra, answers: await learner.predict(pixels), seconds: (performance.now() - begun) / 1000 };
          await learner.free();
        }
        out.memory = await eblora.memory();
        eblora.close();
        return out;
      },
      [device, OPTIONS],
    );
  const [cpu, gpu] = [await run("cpu"), await run("webgpu")];
  assert.equal(cpu.device.kind, "cpu");
  assert.equal(gpu.device.kind, "webgpu");
  assert.equal(gpu.device.software, true, "SwiftShader is known as a software adapter");
  assert.match(gpu.device.note, /software/i);
  for (const method of ["lora-ft", "eblora"]) {
    const [a, b] = [cpu[method], gpu[method]];
    const gap = (x, y) => Math.max(...x.map((value, i) => Math.abs(value - y[i])));
    const losses = gap(a.losses[0], b.losses[0]);
    const sigma = Math.max(...a.spectra.map(({ values }, i) => gap(values, b.spectra[i].values) / Math.max(values[0], 1e-6)));
    const confidence = gap(a.answers.map((x) => x.confidence), a.answers.map((x) => b.answers.find((y) => y.answer === x.answer).confidence));
    t.diagnostic(`${method}: losses differ by ${losses.toExponential(1)}, singular values by ${sigma.toExponential(1)} of σ₁, confidences by ${confidence.toExponential(1)}; ${b.seconds.toFixed(0)} s on SwiftShader, ${a.seconds.toFixed(1)} s on the CPU`);
    assert.equal(a.losses[0].length, OPTIONS.steps);
    assert.ok(losses <= BOUND && confidence <= BOUND, method);
    assert.ok(sigma <= 0.02, `${method}: singular values differ by ${sigma} of σ₁`);
    assert.ok(gap(a.accuracy[0], b.accuracy[0]) <= 100 / OPTIONS.testImages, "at most one image apart");
  }
  browser.check();
});
