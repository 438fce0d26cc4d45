// Phone to desk, light and dark: nothing overflows, everything can be read.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { choose, picture, start } from "./browser.js";

const TASKS = ["fashion", "mnist-rot90", "fashion-rot180", "mnist-inverted", "mnist-permuted", "mine-1-a-rather-long-name", "bags"];
const FORGETS = { "lora-ft": 0.35, eblora: 0.06 };

/** Results of a run as it might be. */
function results(method) {
  const row = (i) => TASKS.map((_, j) => (j > i ? (j * 7) % 31 : 86.5 * (1 - FORGETS[method]) ** (i - j)));
  return {
    schema: "eblora.browser-results",
    method,
    options: { steps: 40 },
    results: {
      method,
      tasks: TASKS,
      zeroShot: row(-1),
      accuracy: TASKS.map((_, i) => row(i)),
      losses: TASKS.map(() => Array.from({ length: 40 }, (_, i) => 2.5 * Math.exp(-i / 15) + 0.3)),
      spectra: [{ task: 6, layer: "layers.3.fc1", values: [8, 7, 6, 5, 4, 3, 2, 1].map((s) => (method === "eblora" ? 0.3 : 2 ** s / 100)) }],
      seconds: 12,
      metrics: null,
    },
  };
}

const LOADED = JSON.stringify({ schema: "eblora.browser-results", version: 1, learners: ["lora-ft", "eblora"].map(results) });

let browser;
let page;
before(async () => {
  browser = await start();
  page = await browser.open();
  await choose(page, "load-results", { name: "r.json", mimeType: "application/json", buffer: Buffer.from(LOADED) });
  await page.waitForSelector("#loaded button");
  await page.focus("#pad");
  await page.keyboard.press("5");
});
after(() => browser.close());

/** What sticks out of the window, and text that is too faint: below 4.5 : 1 (3 : 1 where it is large or bold). */
const look = () =>
  page.evaluate(() => {
    const parse = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
        if (a > 0.5) return [r, g, b];
      }
      return parse(getComputedStyle(document.documentElement).getPropertyValue("--bg") === "#14171c" ? "20 23 28" : "255 255 255");
    };
    const luminance = (rgb) => {
      const [r, g, b] = rgb.slice(0, 3).map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const visible = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    const [outside, faint] = [[], []];
    for (const element of document.querySelectorAll("body *")) {
      if (!visible(element) || element.closest(".unseen, .skip")) continue;
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.right > innerWidth + 0.5 && !element.closest(".scroll, .u-wrap")) outside.push(`${element.localName}.${element.className} ${box.right}`);
      const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
      if (!text || element.closest(":disabled, label:has(:disabled), option, .button:has(:disabled)")) continue;
      const style = getComputedStyle(element);
      const ratio = contrast(luminance(parse(style.color)), luminance(behind(element)));
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.6 && Number(style.fontWeight) >= 600);
      if (ratio < (large ? 3 : 4.5)) faint.push(`${element.localName}.${element.className} “${element.textContent.trim().slice(0, 30)}” ${ratio.toFixed(2)}`);
    }
    return { width: document.documentElement.scrollWidth - innerWidth, outside, faint };
  });

for (const scheme of ["light", "dark"]) {
  for (const [name, width, height] of [["phone", 360, 740], ["tablet", 820, 1100], ["desk", 1280, 900], ["wide", 1900, 1000]]) {
    test(`${name}, ${scheme}: no overflow, enough contrast`, async () => {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      await page.waitForTimeout(700);
      const { width: over, outside, faint } = await look();
      await picture(page, `layout-${name}-${scheme}`);
      assert.ok(over <= 0, `the page is ${over} px too wide: ${outside.join("; ")}`);
      assert.deepEqual(outside, []);
      assert.deepEqual(faint, []);
    });
  }
}

test("a finger draws, and the page does not scroll", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.click("#clear");
  await page.locator("#pad").evaluate((pad) => pad.scrollIntoView({ block: "center" }));
  const [box, before] = [await page.locator("#pad").boundingBox(), await page.evaluate(() => scrollY)];
  const session = await browser.context.newCDPSession(page);
  const touch = (type, y) => session.send("Input.dispatchTouchEvent", { type, touchPoints: type === "touchEnd" ? [] : [{ x: box.x + box.width / 2, y: box.y + y * box.height }] });
  await touch("touchStart", 0.2);
  for (const y of [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]) await touch("touchMove", y);
  await touch("touchEnd");
  assert.equal(await page.evaluate(() => scrollY), before);
  const [stroke] = await page.evaluate(() => globalThis.eblora.ask.pad.strokes);
  assert.ok(stroke.length >= 5 && stroke.at(-1)[1] - stroke[0][1] > 150, JSON.stringify(stroke));
});

test("a phone's targets are large enough to touch", async () => {
  await page.setViewportSize({ width: 360, height: 740 });
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, .button, input:not(.button input):not([type=radio]), summary")]
      .filter((element) => element.checkVisibility())
      .map((element) => [element.id || element.className, element.getBoundingClientRect()])
      .filter(([, box]) => box.width < 24 || box.height < 24) // WCAG 2.2, 2.5.8
      .map(([name, box]) => `${name} ${box.width}×${box.height}`),
  );
  assert.deepEqual(small, []);
  browser.check();
});
