// A class of the reader's own: some drawings with a name, learnt as a task by both, with what it did to the old ones.

import { preview } from "./ask.js";
import { byId, count, el, mean, percent } from "./dom.js";
import { pixelsOf, varied } from "./pad.js";
import { seen } from "./digit.js";
import { METHODS } from "./methods.js";

const LEAST = 3;
// Turned, leaning and stretched a little: a handful is too few to learn from.
const VARIATIONS = [-12, -6, 6, 12].flatMap((degrees) => [[degrees, 0.12, 1.08], [degrees, -0.12, 0.92]]);

export class Teach {
  /** `say(text)` announces, `fail(error)` shows what went wrong. */
  constructor(session, ask, { say, fail }) {
    Object.assign(this, { session, ask, say, fail, examples: [] });
    byId("class-name").addEventListener("input", () => this.refresh());
    byId("add-example").addEventListener("click", () => this.#add());
    byId("teach-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#teach().catch(fail);
    });
    ask.pad.addEventListener("change", () => this.refresh());
    this.refresh();
  }

  get #name() {
    return byId("class-name").value.trim();
  }

  refresh() {
    const { state } = this.session;
    const missing = Math.max(LEAST - this.examples.length, 0);
    byId("add-example").disabled = this.ask.pad.isEmpty || this.#name === "" || state === "starting";
    byId("teach").disabled = missing > 0 || state !== "idle";
    byId("teach-hint").textContent =
      state === "running" || state === "paused"
        ? "Wait for the training, or stop it, to teach a class."
        : missing > 0
          ? `Name it, draw it, add it: ${missing === LEAST ? `${LEAST} examples or more` : `${missing} more`}.`
          : "Ready.";
  }

  #add() {
    if (byId("add-example").disabled) return;
    this.examples.push({ label: this.#name, strokes: this.ask.pad.strokes, view: this.ask.view });
    this.ask.pad.clear();
    this.#show();
    this.say(`${count(this.examples.length, "example")}, the last one of ${this.#name}`);
    this.refresh();
  }

  #show() {
    const items = this.examples.map((example, i) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      preview(canvas, this.#pixels(example), this.session.base);
      const remove = () => {
        this.examples.splice(i, 1);
        this.#show();
        this.refresh();
      };
      const button = el("button", { type: "button", title: "Remove", "aria-label": `Remove example ${i + 1}: ${example.label}`, onclick: remove }, canvas);
      return el("li", {}, button, el("span", {}, example.label));
    });
    byId("examples").replaceChildren(...items);
  }

  #pixels({ strokes, view }, ...change) {
    const { base } = this.session;
    return seen(pixelsOf(change.length > 0 ? varied(strokes, ...change) : strokes, base), base, view);
  }

  async #teach() {
    const { session } = this;
    const drawn = this.examples;
    const labels = [...new Set(drawn.map((example) => example.label))];
    const name = `mine-${session.own.length + 1}-${labels.join("-")}`.replace(/[^\p{L}\p{N}_+.-]+/gu, "_").slice(0, 40);
    const examples = drawn.flatMap((example) =>
      [[], ...VARIATIONS].map((change) => ({ label: example.label, pixels: this.#pixels(example, ...change) })),
    );
    const questions = drawn.map((example) => ({ label: example.label, pixels: this.#pixels(example) }));
    const before = await this.#measure(questions);
    const { id } = await session.add({ kind: "drawn", name, examples });
    this.examples = [];
    this.#show();
    await session.start([id]);
    if (session.state !== "idle") return;
    const after = await this.#measure(questions);
    this.#report(labels, questions.length, before, after);
  }

  /** How many of the drawings each recognises, and its accuracy on the tasks it has learnt. */
  #measure(questions) {
    return Promise.all(
      this.session.slots.map(async ({ learner, results }) => {
        let right = 0;
        for (const { label, pixels } of questions) right += (await learner.predict(pixels))[0].answer === label;
        return { right, tasks: results?.tasks ?? [], last: results?.accuracy.at(-1) ?? results?.zeroShot ?? [] };
      }),
    );
  }

  #report(labels, total, before, after) {
    const columns = this.session.slots.map((slot) => METHODS[slot.method]);
    const arrow = (from, to) => [`${from} → `, el("b", {}, to)];
    const rows = [
      [`your drawings of ${labels.join(", ")}`, ...before.map(({ right }, i) => arrow(`${right}`, `${after[i].right} of ${total}`))],
      ...before[0].tasks.map((task, j) => [task, ...before.map(({ last }, i) => arrow(percent(last[j]), `${percent(after[i].last[j])} %`))]),
    ];
    const old = (of) => percent(mean(of.last.slice(0, before[0].tasks.length).filter(Number.isFinite)));
    if (before[0].tasks.length > 1) {
      rows.push(["old tasks, mean", ...before.map((from, i) => arrow(old(from), `${old(after[i])} %`))]);
    }
    const table = el(
      "table",
      {},
      el("caption", {}, "Before → after teaching"),
      el("thead", {}, el("tr", {}, el("td"), ...columns.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...rows.map(([task, ...cells]) => el("tr", {}, el("th", { scope: "row" }, task), ...cells.map((cell) => el("td", {}, ...cell))))),
    );
    byId("taught").replaceChildren(table);
    this.say(`Taught ${labels.join(", ")}: ${columns.map((name, i) => `${name} recognises ${after[i].right} of ${total}`).join("; ")}`);
    this.ask.again();
  }
}
