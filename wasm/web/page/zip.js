// Zip files: written without compression (weights don't shrink), read with or without.

const CRC = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

export function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/** One zip of `files`, each { name, bytes }. */
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const path = new TextEncoder().encode(name);
    // Flag 0x800: the name is UTF-8; 1980-01-01, so that the same adapters give the same file.
    const common = [20, 0x0800, 0, 0, 0x21, [crc32(bytes)], [bytes.length], [bytes.length], path.length, 0];
    const head = record([0x04034b50], common);
    directory.push(record([0x02014b50], [20, ...common, 0, 0, 0, [0], [offset]]), path);
    parts.push(head, path, bytes);
    offset += head.length + path.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record([0x06054b50], [0, 0, files.length, files.length, [size], [offset], 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Little-endian fields: a number is 16 bits, a number in a list 32. */
function record(signature, fields) {
  const all = [signature, ...fields];
  const bytes = new Uint8Array(all.reduce((sum, field) => sum + (Array.isArray(field) ? 4 : 2), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const field of all) {
    if (Array.isArray(field)) view.setUint32(at, field[0], true);
    else view.setUint16(at, field, true);
    at += Array.isArray(field) ? 4 : 2;
  }
  return bytes;
}

/** The files in a zip, each { name, bytes }. */
export async function unzip(bytes, name = "the zip file") {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const broken = () => new Error(`${name} is damaged or not a zip file`);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw broken();
  const files = [];
  try {
    let at = view.getUint32(end + 16, true);
    for (let i = view.getUint16(end + 10, true); i > 0; i--) {
      if (view.getUint32(at, true) !== 0x02014b50) throw broken();
      const [method, crc, packed] = [view.getUint16(at + 10, true), view.getUint32(at + 16, true), view.getUint32(at + 20, true)];
      const [nameLength, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
      const path = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
      const local = view.getUint32(at + 42, true);
      const data = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      at += 46 + nameLength + extra + comment;
      if (path.endsWith("/")) continue;
      const content = await unpack(bytes.subarray(data, data + packed), method, path);
      if (crc32(content) !== crc) throw broken();
      files.push({ name: path, bytes: content });
    }
  } catch (error) {
    throw error instanceof RangeError || error instanceof TypeError ? broken() : error;
  }
  return files;
}

async function unpack(bytes, method, path) {
  if (method === 0) return bytes.slice();
  if (method !== 8) throw new Error(`${path} is packed in a way that can't be read here (method ${method})`);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
