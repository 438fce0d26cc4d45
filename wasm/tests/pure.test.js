// What needs no browser: zips, and drawings as MNIST's digits.

import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";

import { asDigit, seen } from "../web/page/digit.js";
import { crc32, unzip, zip } from "../web/page/zip.js";

const bytes = (text) => new TextEncoder().encode(text);
const read = async (blob) => new Uint8Array(await blob.arrayBuffer());

test("a zip holds the files it was made of, and damage is seen", async () => {
  assert.equal(crc32(bytes("123456789")), 0xcbf43926);
  const files = [{ name: "a/ü.txt", bytes: bytes("one") }, { name: "empty", bytes: bytes("") }];
  const made = await read(zip(files));
  assert.deepEqual(await unzip(made), files);
  await assert.rejects(unzip(made.subarray(0, 60), "x.zip"), /x\.zip is damaged or not a zip file/);
  const at = 30 + bytes("a/ü.txt").length; // the first file's content
  const damaged = made.map((byte, i) => (i === at ? byte ^ 1 : byte));
  await assert.rejects(unzip(damaged, "x.zip"), /damaged/);
});

test("a zip that was compressed by another program is read", async () => {
  const [content, name] = [bytes("the same again and again, again and again"), bytes("b.csv")];
  const packed = deflateRawSync(content);
  const stored = await read(zip([{ name: "b.csv", bytes: packed }]));
  // The same zip, saying that its content is deflated.
  const view = new DataView(stored.buffer);
  const directory = 30 + name.length + packed.length;
  view.setUint16(directory + 10, 8, true);
  view.setUint32(directory + 16, crc32(content), true);
  view.setUint32(directory + 24, content.length, true);
  assert.deepEqual(await unzip(stored), [{ name: "b.csv", bytes: content }]);
});

const SHAPE = { channels: 1, height: 28, width: 28 };

/** The same bar of ink at some place on the pad. */
function bar(left, top, width, height) {
  const ink = new Uint8Array(100 * 100);
  for (let y = top; y < top + height; y++) ink.fill(255, y * 100 + left, y * 100 + left + width);
  return ink;
}

test("ink is scaled to 20 of 28 pixels, and its centre of mass put in the middle", () => {
  const digit = asDigit(bar(5, 10, 8, 40), 100, 100, SHAPE);
  const rows = [...Array(28).keys()].filter((y) => digit.subarray(y * 28, y * 28 + 28).some((value) => value > 0));
  assert.deepEqual([rows[0], rows.at(-1)], [4, 23]);
  const columns = [...Array(28).keys()].filter((x) => rows.some((y) => digit[y * 28 + x] > 0));
  assert.deepEqual([columns[0], columns.at(-1)], [12, 15]);
  assert.ok(rows.every((y) => digit[y * 28 + 13] === 255));
});

test("place and size on the pad don't matter, and no ink is no digit", () => {
  const digit = asDigit(bar(5, 10, 8, 40), 100, 100, SHAPE);
  assert.deepEqual(asDigit(bar(60, 40, 8, 40), 100, 100, SHAPE), digit);
  assert.deepEqual(asDigit(bar(30, 10, 16, 80), 100, 100, SHAPE), digit);
  assert.ok(asDigit(new Uint8Array(10_000), 100, 100, SHAPE).every((value) => value === 0));
  const colour = asDigit(bar(5, 10, 8, 40), 100, 100, { ...SHAPE, channels: 3 });
  assert.deepEqual([colour.subarray(0, 784), colour.subarray(784, 1568), colour.subarray(1568)], [digit, digit, digit]);
});

test("views are those of the bundled tasks", () => {
  const shape = { channels: 1, height: 4, width: 4 };
  const pixels = Uint8Array.from({ length: 16 }, (_, i) => i);
  assert.deepEqual([...seen(pixels, shape, "turned").subarray(0, 4)], [3, 7, 11, 15]); // as numpy.rot90
  assert.deepEqual([...seen(pixels, shape, "upside").subarray(0, 2)], [15, 14]);
  assert.deepEqual([...seen(pixels, shape, "inverted").subarray(0, 2)], [255, 254]);
  assert.deepEqual([...seen(pixels, shape, "pieces")], [11, 14, 6, 15, 0, 2, 1, 10, 3, 4, 5, 8, 9, 13, 7, 12]);
  assert.equal(seen(pixels, shape, "upright"), pixels);
});
