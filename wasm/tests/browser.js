// A real browser on the built page. Whatever is missing fails the tests: nothing is skipped.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");
/** What `cargo xtask web` made. */
export const WEB = process.env.EBLORA_WEB ?? path.join(TARGET, "web");
export const ARTEFACTS = path.join(TARGET, "web-artefacts");
const TOOLS = process.env.EBLORA_WEB_TOOLS ?? path.join(TARGET, "web-tools");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
/** Deep on purpose: nothing on the page may depend on where it lies. */
const BASE = "/some/where/deep/";

/** A page with nothing on it, for `extra`. */
export const BLANK = { "blank.html": '<!doctype html><link rel="icon" href="data:,"><title>blank</title>' };

/** Serves the built page, and `extra` (path → text) beside it. */
export async function serve(extra = {}) {
  assert.ok(existsSync(path.join(WEB, "index.html")), `${WEB} is not there: run \`cargo xtask web\` first`);
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const name = decodeURIComponent(pathname).slice(BASE.length) || "index.html";
    try {
      if (!pathname.startsWith(BASE) || name.includes("..")) throw new Error("outside");
      const content = extra[name] ?? (await readFile(path.join(WEB, name)));
      response.writeHead(200, { "content-type": TYPES[path.extname(name)] ?? "application/octet-stream" });
      response.end(content);
    } catch {
      response.writeHead(404);
      response.end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}${BASE}`, close: () => new Promise((done) => server.close(done)) };
}

const COMMON = [
  "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--disable-dev-shm-usage",
];
const SWIFTSHADER = [
  "--enable-unsafe-webgpu", "--enable-features=Vulkan,WebGPU", "--use-vulkan=swiftshader", "--use-webgpu-adapter=swiftshader",
  "--ignore-gpu-blocklist",
];
const WITHOUT = ["--disable-features=WebGPU", "--disable-gpu"];

/** Server and browser for one test file: `open` gives pages, `close` ends all. */
export async function start({ webgpu = false, extra } = {}) {
  const { chromium } = createRequire(path.join(TOOLS, "package.json"))("playwright-core");
  const server = await serve(extra);
  const profile = mkdtempSync(path.join(tmpdir(), "eblora-browser-"));
  const launch = (options) =>
    chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      headless: true,
      args: [...COMMON, ...(webgpu ? SWIFTSHADER : WITHOUT)],
      acceptDownloads: true,
      viewport: { width: 1280, height: 900 },
      ...options,
    });
  const context = await launch();
  // Machines that test are often busy: time is measured, not asserted.
  context.setDefaultTimeout(180_000);
  const problems = [];
  const outside = [];
  const watch = (page) => {
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(`console: ${message.text()} (${message.location().url})`);
    });
    page.on("pageerror", (error) => problems.push(`page: ${error.stack ?? error}`));
  };
  context.on("page", watch);
  context.pages().forEach(watch);
  context.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith("http") && origin !== new URL(server.url).origin) outside.push(request.url());
  });
  return {
    url: server.url,
    context,
    problems,
    outside,
    /** A page at `name`, once it is ready. */
    async open(name = "", options = {}) {
      const page = await context.newPage();
      if (options.viewport) await page.setViewportSize(options.viewport);
      await page.emulateMedia({ colorScheme: options.scheme ?? "light", reducedMotion: "reduce" });
      await page.goto(server.url + name);
      if (options.ready !== false) await ready(page);
      return page;
    },
    /** Nothing may have gone wrong, and nothing may have left the origin. */
    check() {
      assert.deepEqual(problems, []);
      assert.deepEqual(outside, []);
    },
    async close() {
      await context.close();
      await server.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** Waits until the page can train. */
export async function ready(page, timeout = 180_000) {
  await page.waitForFunction(() => ["idle", "failed"].includes(document.body.dataset.state), null, { timeout });
  assert.equal(await page.evaluate(() => document.body.dataset.state), "idle", await noticesOf(page));
}

/** The messages on the page. */
export const noticesOf = (page) => page.locator("#notices").innerText();

/** Changes settings as a reader does. */
export async function settings(page, values) {
  await page.evaluate(() => document.querySelector("#controls details").setAttribute("open", ""));
  for (const [id, value] of Object.entries(values)) {
    await page.fill(`#${id}`, String(value));
    await page.dispatchEvent(`#${id}`, "change");
  }
}

/** Presses start, and waits until both have ended. */
export async function train(page, timeout = 300_000) {
  await page.click("#start");
  await page.waitForFunction(() => document.body.dataset.state !== "idle");
  await ready(page, timeout);
}

/** Draws strokes on the pad with the mouse; points are in 0…1. */
export async function draw(page, strokes) {
  await page.locator("#pad").scrollIntoViewIfNeeded();
  const box = await page.locator("#pad").boundingBox();
  for (const stroke of strokes) {
    const [[x, y], ...rest] = stroke.map(([x, y]) => [box.x + x * box.width, box.y + y * box.height]);
    await page.mouse.move(x, y);
    await page.mouse.down();
    for (const point of rest) await page.mouse.move(...point, { steps: 4 });
    await page.mouse.up();
  }
}

/** What the two say of the drawing. */
export async function answers(page) {
  await page.waitForFunction(() => [...document.querySelectorAll(".says")].every((says) => says.textContent.startsWith("“")));
  await page.waitForTimeout(300);
  return page.locator(".says").allInnerTexts();
}

/** The results of both learners, as the session has them. */
export const resultsOf = (page) => page.evaluate(() => globalThis.eblora.session.slots.map((slot) => slot.results));

/**
 * The main thread's tasks while `work` goes on, longest first, in ms: `cpu` is what each computed, which a busy machine does
 * not change, `wall` how long it lasted.
 */
export async function mainThreadTasks(page, work) {
  const session = await page.context().newCDPSession(page);
  const events = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["toplevel", "devtools.timeline", "__metadata"] } });
  await work();
  const complete = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
  await session.send("Tracing.end");
  await complete;
  const thread = ({ pid, tid }) => `${pid}:${tid}`;
  const mains = events.filter((event) => event.name === "thread_name" && event.args.name === "CrRendererMain").map(thread);
  const tasks = events.filter((event) => event.ph === "X" && event.name.endsWith("RunTask") && mains.includes(thread(event)));
  const longest = (key) => tasks.map((task) => (task[key] ?? 0) / 1000).sort((a, b) => b - a);
  return { cpu: longest("tdur"), wall: longest("dur") };
}

/** Keeps a picture of the page to look at. */
export async function picture(page, name, options = { fullPage: true }) {
  mkdirSync(ARTEFACTS, { recursive: true });
  await page.screenshot({ path: path.join(ARTEFACTS, `${name}.png`), ...options });
}

/** Chooses files for an input: { name, mimeType?, buffer } or paths. */
export const choose = (page, id, files) => page.setInputFiles(`#${id}`, files);

/** What a press of a button downloads, as a Buffer with its name. */
export async function downloaded(page, id) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(`#${id}`)]);
  return { name: file.suggestedFilename(), bytes: await readFile(await file.path()) };
}
