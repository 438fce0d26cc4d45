// The page by keyboard alone, and what a screen reader is told.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { answers, picture, ready, resultsOf, settings, start } from "./browser.js";

let browser;
let page;
before(async () => {
  browser = await start();
  page = await browser.open();
});
after(() => browser.close());

const focused = () =>
  page.evaluate(() => {
    const { activeElement: at } = document;
    const ring = getComputedStyle(at.closest(".button") ?? at);
    return { id: at.id, tag: at.localName, outline: parseFloat(ring.outlineWidth) * (ring.outlineStyle === "none" ? 0 : 1) };
  });

test("every control is reached by Tab, with a ring that can be seen", async () => {
  const reached = new Set();
  await page.locator("#live").evaluate(() => document.body.focus());
  for (let i = 0; i < 90; i++) {
    await page.keyboard.press("Tab");
    const { id, tag, outline } = await focused();
    if (tag === "body") break;
    assert.ok(outline >= 2, `no focus ring on ${tag}#${id}`);
    if (id !== "") reached.add(id);
  }
  const wanted = ["start", "tasks", "steps", "rank", "seed", "pad", "clear", "undo", "class-name", "data-files", "data-folder", "base-folder", "import-0", "import-1", "load-results", "ask-start-over"];
  assert.deepEqual(wanted.filter((id) => !reached.has(id)), []);
});

test("every control and every picture has a name", async () => {
  const session = await browser.context.newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  const roles = ["button", "combobox", "spinbutton", "textbox", "checkbox", "radio", "link", "img", "image", "application", "progressbar", "dialog", "listbox"];
  const nameless = nodes.filter((node) => !node.ignored && roles.includes(node.role?.value) && !node.name?.value?.trim());
  assert.deepEqual(nameless.map((node) => `${node.role.value} ${node.backendDOMNodeId}`), []);
  assert.ok(nodes.some((node) => node.role?.value === "image" || node.role?.value === "img"));
});

test("a digit can be drawn with the arrow keys, or asked for", async () => {
  await page.focus("#pad");
  for (let i = 0; i < 9; i++) await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Space");
  for (let i = 0; i < 18; i++) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Space");
  assert.deepEqual(await answers(page), ["“digit 1”", "“digit 1”"]);
  await picture(page, "keyboard-drawing", {});
  await page.keyboard.press("Backspace");
  await page.waitForFunction(() => /Draw something/.test(document.querySelector(".says").innerText));
  const read = [];
  for (let digit = 0; digit < 10; digit++) {
    await page.keyboard.press(String(digit));
    await page.waitForTimeout(250);
    read.push((await answers(page))[0]);
  }
  const right = read.filter((text, digit) => text === `“digit ${digit}”`).length;
  assert.ok(right >= 9, `the base reads ${right} of the 10 ready-made digits: ${read.join(" ")}`);
});

test("training is started, paused and stopped by keyboard", async () => {
  await settings(page, { tasks: 1, steps: 200, rank: 2, testImages: 10 });
  await page.focus("#start");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.body.dataset.state === "running");
  await page.focus("#pause");
  await page.keyboard.press("Space");
  await page.waitForFunction(() => document.body.dataset.state === "paused");
  await page.keyboard.press("Space");
  await page.waitForFunction(() => document.body.dataset.state === "running");
  await page.focus("#stop");
  await page.keyboard.press("Enter");
  await ready(page);
  assert.ok((await resultsOf(page)).every((results) => results.accuracy.length === 0));
  await page.focus("#ask-start-over");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#start-over").isVisible(), true);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#start-over").isVisible(), false);
  assert.equal((await focused()).id, "ask-start-over", "focus comes back");
  browser.check();
});
