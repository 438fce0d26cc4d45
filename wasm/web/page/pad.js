// The drawing pad: mouse, pen, touch, or the arrow keys. It holds strokes; ink is made of them when it is asked for.

import { colour, onSchemeChange } from "./colours.js";
import { asDigit } from "./digit.js";
import { DIGITS } from "./digits.js";

const SIDE = 280;
const WIDTH = 22;
const STEP = 10;

const ink = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
const inkContext = ink.getContext("2d", { willReadFrequently: true });

function trace(context, strokes) {
  Object.assign(context, { lineWidth: WIDTH, lineCap: "round", lineJoin: "round" });
  for (const [first, ...rest] of strokes) {
    context.beginPath();
    context.moveTo(...first);
    for (const point of rest.length > 0 ? rest : [[first[0] + 0.1, first[1]]]) context.lineTo(...point);
    context.stroke();
  }
}

/** What a model that takes images of `shape` gets of these strokes. */
export function pixelsOf(strokes, shape) {
  inkContext.clearRect(0, 0, SIDE, SIDE);
  inkContext.strokeStyle = "#fff";
  trace(inkContext, strokes);
  const { data } = inkContext.getImageData(0, 0, SIDE, SIDE);
  return asDigit(data.filter((_, i) => i % 4 === 3), SIDE, SIDE, shape);
}

/** The strokes turned by `degrees`, leaning and stretched a little: another example of the same drawing. */
export function varied(strokes, degrees, lean, stretch) {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const half = SIDE / 2;
  return strokes.map((stroke) =>
    stroke.map(([px, py]) => {
      const [x, y] = [(px - half) * stretch + lean * (py - half), py - half];
      return [0.85 * (cos * x - sin * y) + half, 0.85 * (sin * x + cos * y) + half];
    }),
  );
}

/** A pad on `canvas`; it sends `change`. */
export class Pad extends EventTarget {
  strokes = [];
  #cursor = [SIDE / 2, SIDE / 2];
  #penDown = false;
  #drawing = null; // the pointer that draws

  constructor(canvas) {
    super();
    this.canvas = Object.assign(canvas, { width: SIDE, height: SIDE });
    this.context = canvas.getContext("2d");
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#up(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const change of ["focus", "blur"]) canvas.addEventListener(change, () => this.#paint());
    onSchemeChange(() => this.#paint());
    this.#paint();
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  clear() {
    this.#penDown = false;
    this.set([]);
  }

  /** Draws these strokes in place of what was there. */
  set(strokes) {
    this.strokes = strokes;
    this.#changed();
  }

  /** Draws a ready-made digit. */
  digit(number) {
    this.set(DIGITS[number].map((stroke) => stroke.map(([x, y]) => [(x * SIDE) / 100, (y * SIDE) / 100])));
  }

  undo() {
    this.set(this.strokes.slice(0, -1));
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  }

  #down(event) {
    if (event.button !== 0 || this.#drawing !== null) return;
    this.#drawing = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.#at(event)]);
    this.#changed();
  }

  #move(event) {
    if (this.#drawing !== event.pointerId) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    this.strokes.at(-1).push(...(passed.length > 0 ? passed : [event]).map((e) => this.#at(e)));
    this.#changed();
  }

  #up(event) {
    if (this.#drawing === event.pointerId) this.#drawing = null;
  }

  #key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow) {
      const step = event.shiftKey ? STEP / 3 : STEP;
      this.#cursor = this.#cursor.map((at, i) => Math.min(Math.max(at + arrow[i] * step, 0), SIDE));
      if (this.#penDown) this.strokes.at(-1).push(this.#cursor);
    } else if (event.key === " " || event.key === "Enter") {
      this.#penDown = !this.#penDown;
      if (this.#penDown) this.strokes.push([this.#cursor]);
    } else if (event.key === "Backspace" || event.key === "Delete") {
      this.#penDown = false;
      this.strokes.pop();
    } else if (event.key >= "0" && event.key <= "9") {
      this.digit(Number(event.key));
    } else {
      return;
    }
    event.preventDefault();
    this.#changed();
  }

  #changed() {
    this.#paint();
    this.dispatchEvent(new Event("change"));
  }

  #paint() {
    const { context } = this;
    context.clearRect(0, 0, SIDE, SIDE);
    context.strokeStyle = colour("fg");
    trace(context, this.strokes);
    if (document.activeElement !== this.canvas || !this.canvas.matches(":focus-visible")) return;
    const [x, y] = this.#cursor;
    context.save();
    Object.assign(context, { lineWidth: 2, strokeStyle: colour(this.#penDown ? "m0" : "accent") });
    context.beginPath();
    context.arc(x, y, 9, 0, 2 * Math.PI);
    context.moveTo(x - 14, y);
    context.lineTo(x + 14, y);
    context.moveTo(x, y - 14);
    context.lineTo(x, y + 14);
    context.stroke();
    context.restore();
  }
}
