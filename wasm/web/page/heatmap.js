// The accuracy matrix: a row per stage, a column per task. A table, so that every number can be read and heard.

import { inkOn, ramp, taskColour } from "./colours.js";
import { el, percent } from "./dom.js";

/** A heat map in `place`: call the result with { results, tasks, method, stage (row that is being measured) }. */
export function heatmap(place) {
  let [shape, cells] = [null, []];
  return ({ results, tasks, method, stage = null }) => {
    const learnt = results?.accuracy.length ?? 0;
    if (shape !== tasks.join("\n")) {
      shape = tasks.join("\n");
      cells = build(place, tasks);
    }
    place.querySelector("caption").textContent = `Accuracy of ${method} in %: a row per stage, a column per task`;
    const rows = [results?.zeroShot ?? [], ...(results?.accuracy ?? [])];
    cells.forEach((row, i) => {
      row.forEach((cell, j) => {
        const value = i <= learnt ? (rows[i]?.[j] ?? null) : null;
        fill(cell, value, i === stage);
        cell.classList.toggle("later", value !== null && j + 1 > i);
        cell.classList.toggle("learned", value !== null && j + 1 === i);
      });
    });
  };
}

function build(place, tasks) {
  const head = tasks.map((task, j) => {
    const cell = el("th", { scope: "col", title: task }, el("span", {}, el("b", {}, `${j + 1}`), el("i", {}, ...broken(task))));
    cell.style.setProperty("--task", `var(--${taskColour(j)})`);
    return cell;
  });
  const cells = [];
  const rows = ["base", ...tasks].map((stage, i) => {
    const row = tasks.map(() => el("td"));
    cells.push(row);
    const title = i === 0 ? ["untouched"] : broken(stage);
    return el("tr", {}, el("th", { scope: "row" }, ...title), ...row);
  });
  const caption = el("caption", { class: "unseen" });
  const table = el("table", {}, caption, el("thead", {}, el("tr", {}, el("td"), ...head)), el("tbody", {}, ...rows));
  table.style.setProperty("--tasks", tasks.length);
  place.replaceChildren(table);
  return cells;
}

/** A name that may be broken after its hyphens. */
function broken(name) {
  return name.split("-").flatMap((part, i, all) => (i + 1 < all.length ? [`${part}-`, el("wbr")] : [part]));
}

function fill(cell, value, measuring) {
  cell.classList.toggle("measuring", measuring && value === null);
  const text = value === null ? "" : percent(value);
  if (cell.textContent === text) return;
  cell.textContent = text;
  const rgb = value === null ? null : ramp(value / 100);
  cell.style.background = rgb ? `rgb(${rgb.join(" ")})` : "";
  cell.style.color = rgb ? inkOn(rgb) : "";
}
