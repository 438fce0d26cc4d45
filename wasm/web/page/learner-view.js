// One column: a learner with its heat map, curves, loss, speed and spectrum.

import { forgettingCurves, lossCurve } from "./charts.js";
import { byId, el, mean, percent } from "./dom.js";
import { throttled } from "./frames.js";
import { heatmap } from "./heatmap.js";
import { METHODS, RULES } from "./methods.js";
import { spectrum } from "./spectrum.js";

export class LearnerView {
  /** `on.method(name)`, `on.layer(name)`: what the reader chooses. */
  constructor(place, index, on) {
    const part = (name) => place.querySelector(`.${name}`);
    place.append(byId("learner").content.cloneNode(true));
    Object.assign(this, { place, index, part, method: "", tasks: [], results: null, losses: [], steps: 1, layer: "", spectra: new Map() });
    this.select = part("method");
    for (const [value, name] of Object.entries(METHODS)) this.select.append(el("option", { value }, name));
    this.select.setAttribute("aria-label", `Method of the ${index === 0 ? "first" : "second"} learner`);
    this.select.addEventListener("change", () => on.method(this.select.value));
    this.layers = part("layer");
    this.layers.addEventListener("change", () => on.layer(this.layers.value));
    this.stage = null;
    this.now = "";
    this.share = 0;
    const bars = spectrum(part("bars"), part("spectrum-words"));
    const heat = heatmap(part("heat"));
    this.drawCurves = forgettingCurves(part("curves"), () => this);
    this.drawLoss = lossCurve(part("loss"), () => this);
    this.drawHeat = throttled(() => heat({ ...this, method: METHODS[this.method] }));
    this.drawBars = throttled(() => bars(this.#values()));
    this.drawNow = throttled(() => {
      part("now").textContent = this.now;
      part("done").value = this.share;
    });
  }

  /** Which method, and which tasks it learns, in order. */
  setup({ method, tasks, steps, layers }) {
    Object.assign(this, { method, tasks, steps });
    this.select.value = method;
    this.part("rule").textContent = RULES[method];
    const names = layers.map((layer) => layer.name);
    if (this.layers.options.length !== names.length || this.layers.options[0]?.value !== names[0]) {
      this.layers.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    }
    if (!names.includes(this.layer)) this.show(names[names.length - 2] ?? names[0] ?? "");
    this.draw();
  }

  /** Chooses the layer whose spectrum is shown. */
  show(layer) {
    this.layer = layer;
    this.layers.value = layer;
    this.drawBars();
  }

  /** What was measured so far; null: nothing. */
  measured(results) {
    this.results = results && this.#aligned(results);
    this.losses = (results?.losses ?? []).map((losses) => [...losses]);
    const learnt = results?.accuracy.length ?? 0;
    this.#figures(learnt);
    if (results === null) this.spectra.clear();
    for (const { layer, values } of results?.spectra ?? []) this.spectra.set(layer, values); // the last task's stay
    if (this.stage !== null && this.stage <= learnt) this.stage = null;
    this.draw();
  }

  /** The same with a column for each task that is shown, in their order. */
  #aligned(results) {
    const places = this.tasks.map((task) => results.tasks.indexOf(task));
    const row = (values) => places.map((place) => values[place] ?? null);
    return { ...results, zeroShot: row(results.zeroShot), accuracy: results.accuracy.map(row) };
  }

  #figures(learnt) {
    const { accuracy } = this.results ?? { accuracy: [] };
    const last = accuracy[learnt - 1] ?? [];
    const seen = last.slice(0, learnt).filter((value) => value !== null);
    const change = accuracy.slice(0, -1).map((row, j) => last[j] - row[j]);
    const kept = mean(seen);
    const lost = mean(change.filter(Number.isFinite));
    this.part("kept").textContent = kept === null ? "–" : `${percent(kept)} %`;
    this.part("lost").textContent = lost === null ? "–" : `${lost > 0 ? "+" : lost < 0 ? "−" : ""}${percent(Math.abs(lost))}`;
  }

  /** Takes one message of the training. */
  progress(p) {
    const name = (task) => this.tasks[task] ?? "";
    if (p.kind === "evaluating") {
      this.stage = p.task === null ? 0 : p.task + 1;
      this.now = `measuring ${p.task === null ? "the untouched model" : `after ${name(p.task)}`}: ${Math.round((100 * p.done) / Math.max(p.total, 1))} %`;
      this.drawHeat();
    } else if (p.kind === "gradient") {
      this.now = `${name(p.task)}: reading the gradient`;
    } else if (p.kind === "step") {
      (this.losses[p.task] ??= [])[p.step - 1] = p.loss;
      this.steps = p.steps;
      this.share = (p.task + p.step / p.steps) / Math.max(this.tasks.length, 1);
      this.now = `${name(p.task)}: step ${p.step} of ${p.steps} · loss ${p.loss.toFixed(2)} · ${p.stepsPerSecond.toFixed(1)} steps/s`;
      this.drawLoss();
    } else if (p.kind === "spectrum") {
      for (const { name: layer, values } of p.layers) this.spectra.set(layer, values);
      this.drawBars();
    }
    this.drawNow();
  }

  /** Says what it does when it does not train. */
  rest(text) {
    this.now = text;
    this.share = this.tasks.length > 0 ? (this.results?.accuracy.length ?? 0) / this.tasks.length : 0;
    this.stage = null;
    this.drawNow();
    this.drawHeat();
  }

  draw() {
    this.drawHeat();
    this.drawCurves();
    this.drawLoss();
    this.drawBars();
  }

  #values() {
    return this.spectra.get(this.layer) ?? null;
  }
}
