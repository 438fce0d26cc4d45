// The native program, to compare with: the same tasks, options and seeds.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { ROOT } from "./browser.js";

const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");

/** Runs `eblora` with these arguments. */
export function eblora(...args) {
  const built = ["release", "debug"].map((profile) => path.join(TARGET, profile, "eblora")).filter(existsSync);
  const [newest] = built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  const found = process.env.EBLORA ?? newest;
  assert.ok(found, "the native eblora is not built: run `cargo build --release`");
  return execFileSync(found, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A folder that is gone after `work`. */
export async function inFolder(work) {
  const folder = mkdtempSync(path.join(tmpdir(), "eblora-native-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `result.json` of the demo with these flags. */
export const demo = (...flags) =>
  inFolder((folder) => {
    eblora("demo", "--quiet", "--threads", "1", "--out", folder, ...flags);
    return JSON.parse(readFileSync(path.join(folder, "result.json"), "utf8"));
  });

/** The largest difference between the losses of a learner of the page and native's, which are means over some steps. */
export function lossDifference(losses, native, tasks) {
  let [most, before] = [0, 0];
  for (const { task, step, loss } of native.filter((entry) => entry.task < tasks)) {
    const steps = losses[task].slice(step > before ? before : 0, step);
    before = step;
    most = Math.max(most, Math.abs(steps.reduce((a, b) => a + b, 0) / steps.length - loss));
  }
  return most;
}
