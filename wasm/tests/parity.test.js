// The kernel parity suite of gpu/tests/parity in a browser: the same tests with the same bounds, against Chrome's shader
// compiler, which is stricter than ours. `cargo xtask web` builds it apart, with the feature `parity`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { ROOT, start } from "./browser.js";

const PARITY = process.env.EBLORA_PARITY ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target"), "web-parity");
const file = (name) => [`parity/${name}`, readFileSync(path.join(PARITY, name))];
const PAGE = '<!doctype html><link rel="icon" href="data:,"><title>parity</title>';

let browser;
let page;
before(async () => {
  const extra = { ...Object.fromEntries([file("eblora_wasm.js"), file("eblora_wasm_bg.wasm")]), "parity.html": PAGE };
  browser = await start({ webgpu: true, extra });
});
after(() => browser.close());

/** A page with the module, which a failed test leaves unusable. */
async function fresh() {
  await page?.close();
  page = await browser.open("parity.html", { ready: false });
  return page.evaluate(async () => {
    const module = await import("./parity/eblora_wasm.js");
    await module.default();
    globalThis.parity = module;
    return module.parityNames();
  });
}

/** Runs a test; what it failed with, or null. A panic is thrown out of the event loop. */
const run = (name) =>
  page.evaluate(
    (name) =>
      new Promise((resolve) => {
        addEventListener("error", (event) => resolve(event.message), { once: true });
        globalThis.parity.parityRun(name).then(
          () => resolve(null),
          (error) => resolve(error.message ?? String(error)),
        );
      }),
    name,
  );

test("every kernel is within its bounds in Chrome", { timeout: 1_800_000 }, async (t) => {
  const names = await fresh();
  assert.ok(names.length >= 30, `${names.length} tests`);
  for (const name of names) {
    await t.test(name, async () => {
      const failed = await run(name);
      if (failed !== null) await fresh();
      assert.equal(failed, null);
    });
  }
  browser.check();
});
