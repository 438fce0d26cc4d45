// The work: base, tasks and two learners, kept over reloads. No drawing here; what happens is told by events:
// `state`, `progress` { slot, progress } (its task by place), `results` { slot }, `tasks`, `warning` { text }, `lost` { text }.

import { open } from "../eblora/eblora.js";
import { METHODS } from "./methods.js";
import * as store from "./store.js";

export const DEFAULTS = {
  device: "auto",
  tasks: 5,
  steps: 150,
  rank: 8,
  seed: 0,
  batch: 32,
  testImages: 200,
  methods: ["lora-ft", "eblora"],
};

export class Session extends EventTarget {
  settings = structuredClone(DEFAULTS);
  /** `starting`, `idle`, `running`, `paused`, `stopping`, `lost` or `failed`. */
  state = "starting";
  eblora = null;
  base = null;
  bundled = [];
  /** The reader's tasks: { info, source }. */
  own = [];
  /** { learner, stream (ids in the order of training), results, busy } each. */
  slots = [];
  #changing = Promise.resolve();

  /** Starts the worker and brings back what was kept. `override`: settings for this time. */
  async boot(override = {}) {
    this.#become("starting");
    this.eblora?.close();
    Object.assign(this, { eblora: null, base: null, bundled: [], own: [], slots: [] });
    const kept = await this.#kept();
    Object.assign(this.settings, kept.settings, override);
    try {
      this.eblora = await open({ device: this.settings.device });
      const eblora = this.eblora;
      eblora.lost.then((text) => eblora === this.eblora && this.#lose(text));
      this.base = await eblora.base(kept.base);
      this.#tell("device");
      await this.#prepare(kept);
      this.#become("idle");
    } catch (error) {
      if (this.state === "lost") return;
      this.#become("failed");
      throw error;
    }
  }

  async #kept() {
    try {
      const [settings, base, own] = await Promise.all(["settings", "base", "own"].map(store.get));
      const sources = await Promise.all((own ?? []).map((key) => store.get(key)));
      const learners = await Promise.all([0, 1].map((i) => store.get(`learner-${i}`)));
      return { settings, base, own: sources.filter(Boolean), learners };
    } catch (error) {
      this.#warn(`This browser keeps nothing over a reload here (${error.message}).`);
      return { own: [], learners: [] };
    }
  }

  async #prepare(kept) {
    // The pad can be used now; what was learnt follows.
    this.slots = await Promise.all(this.settings.methods.map((method) => this.#fresh(method)));
    this.#tell("tasks");
    try {
      this.bundled = await this.eblora.bundledTasks();
    } catch (error) {
      if (kept.base === undefined) throw error;
      this.#warn(`The bundled tasks don't suit this model: ${error.message}`); // own data can still be learnt
    }
    for (const source of kept.own) {
      try {
        this.own.push({ info: await this.#add(source), source });
      } catch (error) {
        this.#warn(`${source.name} could not be read again: ${error.message}`);
      }
    }
    this.#tell("tasks");
    await Promise.all(kept.learners.map((saved, index) => saved && this.#restore(index, saved)));
  }

  async #restore(index, saved) {
    try {
      const learner = await this.eblora.restore(saved.bytes);
      await this.slots[index].learner.free();
      this.slots[index] = { learner, method: saved.method, stream: saved.stream, results: await learner.results(), began: true };
      this.settings.methods[index] = saved.method;
      this.#tell("results", { slot: index });
    } catch (error) {
      this.#warn(`What ${METHODS[saved.method]} had learnt could not be brought back: ${error.message}`);
    }
  }

  async #fresh(method) {
    const { steps, rank, seed, batch, testImages } = this.settings;
    const learner = await this.eblora.learner({ method, steps, rank, seed, batch, testImages });
    return { learner, method, stream: [], results: null, began: false };
  }

  #add(source) {
    if (source.kind === "drawn") return this.eblora.addDrawn(source.name, source.examples);
    return this.eblora.addFiles(source.name, source.files);
  }

  /** Whether anything was learnt: then rank, steps, seed and methods stay. */
  get began() {
    return this.slots.some((slot) => slot.began);
  }

  /** Every task there is, in order. */
  get tasks() {
    return [...this.bundled, ...this.own.map((task) => task.info)];
  }

  /** The tasks of the settings and the reader's own, in order, after those that this learner has begun. */
  plan(slot) {
    const wanted = [...this.bundled.slice(0, this.settings.tasks), ...this.own.map((task) => task.info)];
    return [...new Set([...slot.stream, ...wanted.map((task) => task.id)])];
  }

  /** What a learner has still to learn. */
  pending(slot) {
    return this.plan(slot).slice(slot.results?.accuracy.length ?? 0);
  }

  get hasPending() {
    return this.slots.some((slot) => this.pending(slot).length > 0);
  }

  /** Changes settings; methods and their numbers only before anything was learnt. */
  change(changes) {
    this.#changing = this.#changing.then(() => this.#change(changes));
    return this.#changing;
  }

  async #change(changes) {
    Object.assign(this.settings, changes);
    await this.#keep("settings", this.settings);
    const ofLearners = ["steps", "rank", "seed", "batch", "testImages", "methods"];
    if (!this.began && this.slots.length > 0 && ofLearners.some((key) => key in changes)) {
      const old = this.slots;
      this.slots = await Promise.all(this.settings.methods.map((method) => this.#fresh(method)));
      await Promise.all(old.map((slot) => slot.learner.free()));
    }
    this.#tell("tasks");
  }

  /** Trains both on what is pending, or on that alone which is in `only`. Ends when both have ended. */
  async start(only = null) {
    await this.#changing;
    if (this.state !== "idle") return;
    const { eblora } = this;
    this.#become("running");
    const runs = this.slots.map((slot, index) => this.#train(slot, index, only));
    const failed = (await Promise.allSettled(runs)).find((run) => run.status === "rejected");
    if (this.eblora !== eblora || this.state === "lost") return; // left meanwhile
    this.#become("idle");
    if (failed) throw failed.reason;
  }

  async #train(slot, index, only) {
    // A task that was stopped half way is ended first.
    const ids = this.pending(slot).filter((id) => only === null || only.includes(id) || slot.stream.includes(id));
    if (ids.length === 0) return;
    const learnt = slot.results?.accuracy.length ?? 0;
    slot.stream = [...slot.stream.slice(0, learnt), ...ids];
    slot.began = true;
    try {
      slot.results = await slot.learner.train(ids, (progress) => this.#progress(slot, index, progress));
    } finally {
      // After a stop: what is learnt, and the task that was begun.
      slot.stream = slot.stream.slice(0, Math.max(slot.results?.accuracy.length ?? 0, (slot.task ?? -1) + 1));
      if (this.slots[index] === slot && this.state !== "lost") {
        this.#tell("results", { slot: index });
        await this.#save(slot, index);
      }
    }
  }

  #progress(slot, index, told) {
    if (this.slots[index] !== slot) return; // of a session that was left
    // The task by its place among those of this learner.
    const progress = { ...told, task: told.task === null ? null : slot.stream.indexOf(told.task) };
    if (progress.kind === "step") slot.task = progress.task;
    this.#tell("progress", { slot: index, progress });
    if (progress.kind === "warning") this.#warn(progress.text);
    if (progress.kind === "task" || progress.kind === "learnt") this.#measured(slot, index, progress.kind === "learnt");
  }

  async #measured(slot, index, save) {
    try {
      slot.results = await slot.learner.results();
      this.#tell("results", { slot: index });
      if (save) await this.#save(slot, index);
    } catch (error) {
      if (error.code !== "device-lost" && this.slots[index] === slot) this.#warn(error.message);
    }
  }

  async #save(slot, index) {
    try {
      const bytes = await slot.learner.save();
      await this.#keep(`learner-${index}`, { bytes, method: slot.method, stream: slot.stream });
    } catch (error) {
      if (error.code !== "device-lost" && this.slots[index] === slot) this.#warn(`The state could not be kept: ${error.message}`);
    }
  }

  async pause() {
    if (this.state !== "running") return;
    this.#become("paused");
    await Promise.all(this.slots.map((slot) => slot.learner.pause()));
    await this.keepNow();
  }

  /** Keeps the state as it is, in mid-task too. */
  async keepNow() {
    if (this.state !== "running" && this.state !== "paused") return; // else it is kept already
    await Promise.all(this.slots.map((slot, index) => slot.began && this.#save(slot, index)));
  }

  async resume() {
    if (this.state !== "paused") return;
    this.#become("running");
    await Promise.all(this.slots.map((slot) => slot.learner.resume()));
  }

  async stop() {
    if (this.state !== "running" && this.state !== "paused") return;
    this.#become("stopping"); // `start` ends, and makes it idle
    await Promise.all(this.slots.map((slot) => slot.learner.stop()));
  }

  /** Adds a task of the reader's own; nothing changes when it can't be read. `source`: { kind, name, files | examples }. */
  async add(source) {
    const info = await this.#add(source);
    this.own.push({ info, source });
    const key = `own-${Date.now()}-${this.own.length}`;
    if (await this.#keep(key, source)) await this.#keep("own", [...((await store.get("own")) ?? []), key]);
    this.#tell("tasks");
    return info;
  }

  /** Puts another base in place of this one, once it is known to work; what was learnt belongs to the old one. */
  async useBase(files) {
    if (files !== undefined) {
      const trial = await open({ device: this.settings.device });
      try {
        await trial.base(files);
      } finally {
        trial.close();
      }
    }
    await this.forget({ everything: false, reboot: false });
    if (files === undefined) await store.remove("base");
    else await this.#keep("base", files);
    await this.boot();
  }

  async importInto(index, files) {
    const slot = this.slots[index];
    slot.results = await slot.learner.importAdapters(files);
    Object.assign(slot, { began: true, stream: [] }); // in place of what it had learnt
    this.#tell("results", { slot: index });
    await this.#save(slot, index);
  }

  /** Starts over: what was learnt goes, and with `everything` the reader's data, base and settings too. */
  async forget({ everything, reboot = true }) {
    if (everything) {
      await store.clear();
      this.settings = structuredClone(DEFAULTS);
    } else {
      await store.remove("learner-0", "learner-1");
    }
    if (reboot) await this.boot();
  }

  #lose(text) {
    this.#become("lost");
    this.#tell("lost", { text });
  }

  async #keep(key, value) {
    try {
      await store.put(key, value);
      return true;
    } catch (error) {
      this.#warn(`This can't be kept over a reload (${error.message}).`);
      return false;
    }
  }

  #become(state) {
    this.state = state;
    this.#tell("state");
  }

  #warn(text) {
    this.#tell("warning", { text });
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
