// The client of eblora on the main thread: every call goes to a worker, in which the WebAssembly module computes.
// Typed and explained in eblora.d.ts.

/** What goes wrong; `code` is "input", "device-lost", "busy" or "internal". */
export class EbloraError extends Error {
  constructor(message, code) {
    super(message);
    this.name = "EbloraError";
    this.code = code;
  }
}

/** Calls across the border to the worker. */
class Border {
  #worker;
  #next = 0;
  #waiting = new Map();
  #failure = null;

  constructor(worker) {
    this.#worker = worker;
    worker.addEventListener("message", ({ data }) => this.#answer(data));
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#fail(new EbloraError(event.message || "the worker could not be started", "internal"));
    });
  }

  #answer({ id, ok, error, progress }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (progress !== undefined) {
      waiting.onProgress?.(progress);
      return;
    }
    this.#waiting.delete(id);
    if (error) waiting.reject(new EbloraError(error.message, error.code));
    else waiting.resolve(ok);
  }

  #fail(error) {
    this.#failure = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  call(call, args = [], { transfer = [], onProgress } = {}) {
    if (this.#failure) return Promise.reject(this.#failure);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, call, args }, transfer);
    });
  }

  close() {
    this.#worker.terminate();
    this.#fail(new EbloraError("this session is closed", "internal"));
  }
}

/** The bytes as the worker takes them; the caller's stay as they are. */
const copied = (bytes) => new Uint8Array(bytes).slice();
const filesOf = (files) => files.map(({ name, bytes }) => ({ name, bytes: copied(bytes) }));
const buffersOf = (files) => files.map(({ bytes }) => bytes.buffer);

/** Starts a worker, loads the module, and opens a device. */
export async function open({ device = "auto" } = {}) {
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const border = new Border(worker);
  try {
    return new Eblora(border, await border.call("open", [device]));
  } catch (error) {
    border.close();
    throw error;
  }
}

/** A session: a device, a base model, tasks, learners. */
export class Eblora {
  #border;

  constructor(border, { device, version }) {
    this.#border = border;
    this.device = device;
    this.version = version;
    // Where the session is closed, nobody is told.
    this.lost = new Promise((resolve) => border.call("lost").then(resolve, () => {}));
  }

  base(files) {
    const own = files && filesOf(files);
    return this.#border.call("base", [own ?? null], { transfer: own ? buffersOf(own) : [] });
  }

  bundledTasks(count) {
    return this.#border.call("bundledTasks", [count ?? null]);
  }

  addFiles(name, files) {
    const own = filesOf(files);
    return this.#border.call("addFiles", [name, own], { transfer: buffersOf(own) });
  }

  addDrawn(name, examples) {
    const own = examples.map(({ label, pixels }) => ({ label, pixels: copied(pixels) }));
    return this.#border.call("addDrawn", [name, own], { transfer: own.map(({ pixels }) => pixels.buffer) });
  }

  tasks() {
    return this.#border.call("tasks");
  }

  async learner(options) {
    return new Learner(this.#border, await this.#border.call("learner", [options]));
  }

  async restore(bytes) {
    const own = copied(bytes);
    return new Learner(this.#border, await this.#border.call("restore", [own], { transfer: [own.buffer] }));
  }

  image(file) {
    const [own] = filesOf([file]);
    return this.#border.call("image", [own], { transfer: [own.bytes.buffer] });
  }

  memory() {
    return this.#border.call("memory");
  }

  loseDevice() {
    return this.#border.call("loseDevice");
  }

  bench(what, size) {
    return this.#border.call("bench", [what, size ?? null]);
  }

  close() {
    this.#border.close();
  }
}

/** A method with what it has learnt. */
export class Learner {
  #border;
  #id;

  constructor(border, { id, options }) {
    this.#border = border;
    this.#id = id;
    this.options = options;
  }

  #call(call, args = [], more) {
    return this.#border.call(call, [this.#id, ...args], more);
  }

  train(tasks, onProgress) {
    return this.#call("train", [tasks], { onProgress });
  }

  pause() {
    return this.#call("pause");
  }

  resume() {
    return this.#call("resume");
  }

  stop() {
    return this.#call("stop");
  }

  results() {
    return this.#call("results");
  }

  predict(pixels) {
    const own = copied(pixels);
    return this.#call("predict", [own], { transfer: [own.buffer] });
  }

  exportAdapters() {
    return this.#call("exportAdapters");
  }

  importAdapters(files) {
    const own = filesOf(files);
    return this.#call("importAdapters", [own], { transfer: buffersOf(own) });
  }

  save() {
    return this.#call("save");
  }

  free() {
    return this.#call("free");
  }
}
