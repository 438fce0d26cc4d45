// Files in and out: what was dropped or chosen, folders included, and downloads.

import { unzip } from "./zip.js";
import { el } from "./dom.js";

/** Hands `blob` to the reader as a file. */
export function download(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** What an `<input type=file>` holds, as { name, bytes }; zips are opened. */
export async function chosen(input) {
  const files = await Promise.all(
    [...input.files].map(async (file) => ({ name: file.webkitRelativePath || file.name, bytes: await bytesOf(file) })),
  );
  input.value = "";
  return opened(files);
}

/** What was dropped, folders with all that is in them. */
export async function dropped(transfer) {
  // Entries are gone after the first await.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [];
  for (const entry of entries) await walk(entry, files);
  return opened(files);
}

async function walk(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    files.push({ name: entry.fullPath.slice(1), bytes: await bytesOf(file) });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (batch.length === 0) return;
    for (const child of batch) await walk(child, files);
  }
}

const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());
const isHidden = (name) => name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");

async function opened(files) {
  const all = await Promise.all(
    files.map((file) => (/\.zip$/i.test(file.name) ? unzip(file.bytes, file.name) : [file])),
  );
  return all.flat().filter((file) => !isHidden(file.name));
}

/** A name for what these files are: their common folder, or the first file's name without its ending. */
export function nameOf(files) {
  const [top, ...rest] = files[0].name.split("/");
  const shared = rest.length > 0 && files.every((file) => file.name.startsWith(`${top}/`));
  return shared ? top : files[0].name.split("/").pop().replace(/\.[^.]*$/, "");
}
