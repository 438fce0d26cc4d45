// The worker: takes calls as `{id, call, args}`, answers `{id, ok}` or `{id, error: {message, code}}`, and tells of a
// training as `{id, progress}`. Everything is fetched from beside this file, and only once it is needed.

import init, { Session } from "./eblora_wasm.js";

const ASSETS = new URL("./assets/", import.meta.url);

let session = null;
/** What a trap of the module said; nothing can be done with it any more. */
let trapped = null;

/** A turn of the event loop, without the delay that timers have. */
const channel = new MessageChannel();
const turns = [];
channel.port1.onmessage = () => turns.shift()?.();
const turn = () =>
  new Promise((resolve) => {
    turns.push(resolve);
    channel.port2.postMessage(null);
  });

class Failure extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

async function asset(path) {
  const url = new URL(path, ASSETS);
  const response = await fetch(url).catch((error) => {
    throw new Failure(`cannot fetch ${url.pathname}: ${error.message}`, "internal");
  });
  if (!response.ok) throw new Failure(`cannot fetch ${url.pathname}: the server answers ${response.status}`, "internal");
  return { name: path, bytes: new Uint8Array(await response.arrayBuffer()) };
}

const assets = (paths) => Promise.all(paths.map(asset));
const parsed = async (json) => JSON.parse(await json);
const learner = (id) => ({ id, options: JSON.parse(session.options(id)) });

const CALLS = {
  async open(_, device) {
    await init();
    session = await Session.open(device, turn);
    return { device: JSON.parse(session.device()), version: Session.version() };
  },
  lost: () => session.lost(),
  async base(_, files) {
    if (files) return parsed(session.base(files, false));
    const bundled = await assets(["base/config.json", "base/preprocessor_config.json", "base/model.safetensors"]);
    return parsed(session.base(bundled, true));
  },
  async bundledTasks(_, count) {
    const wanted = count ?? 5;
    return parsed(session.bundledTasks(wanted, await assets(session.bundledFiles(wanted))));
  },
  addFiles: (_, name, files) => parsed(session.addFiles(name, files)),
  addDrawn: (_, name, examples) => parsed(session.addDrawn(name, examples)),
  tasks: () => parsed(session.tasks()),
  learner: (_, options) => learner(session.learner(JSON.stringify(options))),
  restore: (_, bytes) => learner(session.restore(bytes)),
  image: (_, file) => session.image(file),
  memory() {
    const [buffers, bytes] = session.memory();
    return { buffers, bytes };
  },
  loseDevice: () => session.loseDevice(),
  bench: (_, what, size) => parsed(session.bench(what, size ?? undefined)),
  train: (progress, id, tasks) => parsed(session.train(id, Uint32Array.from(tasks), (json) => progress(JSON.parse(json)))),
  pause: (_, id) => session.pause(id),
  resume: (_, id) => session.resume(id),
  stop: (_, id) => session.stop(id),
  results: (_, id) => parsed(session.results(id)),
  predict: (_, id, pixels) => parsed(session.predict(id, pixels)),
  exportAdapters: (_, id) => session.exportAdapters(id),
  importAdapters: (_, id, files) => parsed(session.importAdapters(id, files)),
  save: (_, id) => session.save(id),
  free: (_, id) => session.free(id),
};

/** The buffers of an answer, which go over without a copy. */
function buffers(ok) {
  if (ok instanceof Uint8Array) return [ok.buffer];
  if (Array.isArray(ok)) return ok.flatMap((item) => (item?.bytes instanceof Uint8Array ? [item.bytes.buffer] : []));
  return [];
}

addEventListener("message", async ({ data: { id, call, args } }) => {
  try {
    if (trapped) throw new Failure(trapped, "internal");
    const ok = await CALLS[call]((progress) => postMessage({ id, progress }), ...args);
    postMessage({ id, ok }, buffers(ok));
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError || error?.message?.startsWith("panicked at")) {
      trapped = `eblora has failed (${error.message}): reload the page; what was saved is safe`;
      error = new Failure(trapped, "internal");
    }
    const code = ["input", "device-lost", "busy"].includes(error?.code) ? error.code : "internal";
    postMessage({ id, error: { message: error?.message ?? String(error), code } });
  }
});
