// What both learners say of the drawing, while it is drawn.

import { byId, el } from "./dom.js";
import { seen } from "./digit.js";
import { throttled } from "./frames.js";
import { Pad, pixelsOf } from "./pad.js";
import { METHODS } from "./methods.js";

const SHOWN = 4;

export class Ask {
  constructor(session) {
    this.session = session;
    this.pad = new Pad(byId("pad"));
    this.answers = [0, 1].map((index) => this.#column(index));
    this.asking = [false, false];
    this.pixels = null;
    this.pad.addEventListener("change", throttled(() => this.#ask(), 60));
    byId("clear").addEventListener("click", () => this.pad.clear());
    byId("undo").addEventListener("click", () => this.pad.undo());
    const ready = byId("ready-made");
    for (let digit = 0; digit < 10; digit++) {
      ready.append(el("button", { type: "button", "aria-label": `Draw a ${digit}`, onclick: () => this.pad.digit(digit) }, String(digit)));
    }
    for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => this.#ask());
    this.again();
  }

  #column(index) {
    const place = document.querySelectorAll(".answers")[index];
    const rows = Array.from({ length: SHOWN }, () => {
      const [name, bar, share] = [el("span", { class: "name" }), el("i", { class: "bar" }), el("span", { class: "share" })];
      return { name, bar, share, row: el("li", {}, name, el("span", { class: "track", "aria-hidden": "true" }, bar), share) };
    });
    const [title, list] = [el("h3"), el("ol", {}, ...rows.map(({ row }) => row))];
    const says = el("p", { class: "says", "aria-live": "polite" });
    place.append(title, says, list);
    return { place, title, says, list, rows };
  }

  get view() {
    return document.querySelector("input[name=view]:checked").value;
  }

  /** Waits for no answer any more: the worker is another one. */
  reset() {
    this.asking = [false, false];
  }

  /** Asks once more: the learners have changed. */
  again() {
    this.session.slots.forEach((slot, index) => (this.answers[index].title.textContent = METHODS[slot.method]));
    this.#ask();
  }

  #ask() {
    const { base, slots } = this.session;
    if (base === null || slots.length === 0) return;
    this.pixels = this.pad.isEmpty ? null : seen(pixelsOf(this.pad.strokes, base), base, this.view);
    preview(byId("preview"), this.pixels, base);
    slots.forEach((_, index) => this.#askOne(index));
  }

  /** One question at a time to each; what was drawn meanwhile is asked next. */
  async #askOne(index) {
    if (this.asking[index]) return;
    if (this.pixels === null) {
      this.#show(index, null);
      return;
    }
    const [pixels, slot] = [this.pixels, this.session.slots[index]];
    const { asking } = this;
    asking[index] = true;
    try {
      const answers = await slot.learner.predict(pixels);
      if (this.pixels !== null && asking === this.asking) this.#show(index, answers);
    } catch (error) {
      if (slot === this.session.slots[index] && this.session.state !== "lost") this.answers[index].says.textContent = error.message;
    }
    asking[index] = false;
    if (this.pixels !== pixels && asking === this.asking && this.session.slots.length > 0) this.#askOne(index);
  }

  #show(index, answers) {
    const { says, rows } = this.answers[index];
    const words = answers === null ? "Draw something." : `“${answers[0].answer}”`;
    if (says.textContent !== words) says.textContent = words;
    rows.forEach(({ row, name, bar, share }, i) => {
      const answer = answers?.[i];
      row.classList.toggle("empty", answer === undefined);
      name.textContent = answer?.answer ?? "";
      share.textContent = answer ? `${(100 * answer.confidence).toFixed(0)} %` : "";
      bar.style.transform = `scaleX(${answer?.confidence ?? 0})`;
    });
  }
}

/** Shows on a canvas what the model gets. */
export function preview(canvas, pixels, shape) {
  Object.assign(canvas, { width: shape.width, height: shape.height });
  const image = new ImageData(shape.width, shape.height);
  const plane = shape.width * shape.height;
  for (let i = 0; i < plane; i++) {
    const grey = pixels === null ? 0 : pixels[i];
    image.data.set(shape.channels === 3 && pixels ? [0, 1, 2].map((c) => pixels[c * plane + i]) : [grey, grey, grey], 4 * i);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
