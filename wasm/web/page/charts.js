// The curves: forgetting and loss, by uPlot.

import uPlot from "../vendor/uPlot.esm.js";
import { colour, onSchemeChange, taskColour } from "./colours.js";
import { throttled } from "./frames.js";

const FONT = "11px system-ui, sans-serif";
const MOST_POINTS = 240;

/** A plot in `place` that `describe()` tells everything about: { key, options, data, label }. Redrawn by `update`. */
function plot(place, height, describe) {
  let [chart, key] = [null, ""];
  const draw = () => {
    const width = place.clientWidth;
    if (width === 0) return;
    const said = describe();
    place.setAttribute("aria-label", said.label);
    if (chart === null || key !== said.key) {
      chart?.destroy();
      chart = new uPlot({ width, height, cursor: { show: false }, legend: { show: false }, ...said.options }, said.data, place);
      key = said.key;
    } else {
      if (chart.width !== width) chart.setSize({ width, height });
      chart.setData(said.data);
    }
  };
  place.setAttribute("role", "img");
  place.style.minHeight = `${height}px`;
  const update = throttled(draw, 200);
  new ResizeObserver(() => update()).observe(place);
  onSchemeChange(() => {
    key = ""; // the colours are other ones
    update();
  });
  return update;
}

function axis(more) {
  return { stroke: colour("muted"), font: FONT, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, ...more };
}

/**
 * Accuracy on each task from stage to stage: dashed before it is learnt. `read()` gives { results, tasks (names in the order
 * of training) }.
 */
export function forgettingCurves(place, read) {
  return plot(place, 190, () => {
    const { results, tasks } = read();
    const stages = tasks.map((_, stage) => stage + 1);
    const rows = [results?.zeroShot ?? [], ...(results?.accuracy ?? [])];
    const at = (stage, task) => rows[stage]?.[task] ?? null;
    const data = [[0, ...stages]];
    const series = [{}];
    tasks.forEach((_, task) => {
      const own = task + 1; // the stage after which it is learnt
      const stroke = colour(taskColour(task));
      data.push(data[0].map((stage) => (stage <= own ? at(stage, task) : null)));
      series.push({ stroke, width: 1.4, dash: [2, 4], alpha: 0.7, points: { show: false }, spanGaps: true });
      data.push(data[0].map((stage) => (stage >= own ? at(stage, task) : null)));
      series.push({ stroke, width: 2.2, points: { show: true, size: 6, fill: stroke, stroke, filter: (_u, _s, _show, _gaps) => [own] } });
    });
    const end = rows.length - 1;
    const last = tasks.map((name, task) => at(end, task) !== null && `${name} ${at(end, task).toFixed(1)} %`).filter(Boolean);
    return {
      key: tasks.join("\n"),
      data,
      label: `Accuracy on each task from stage to stage. After stage ${end}: ${last.join(", ") || "nothing measured yet"}`,
      options: {
        scales: { x: { time: false, range: [0, Math.max(tasks.length, 1)] }, y: { range: [0, 100] } },
        padding: [8, 12, 0, 0],
        axes: [
          axis({ grid: { show: false }, size: 24, splits: () => [0, ...stages], values: (_u, at) => at.map((x) => (x === 0 ? "base" : x)) }),
          axis({ size: 34, splits: () => [0, 25, 50, 75, 100] }),
        ],
        series,
      },
    };
  });
}

/** The loss over all steps, each task in its colour. `read()` gives { losses (per task), tasks, steps (per task) }. */
export function lossCurve(place, read) {
  return plot(place, 132, () => {
    const { losses, tasks, steps } = read();
    const total = Math.max(steps * tasks.length, 1);
    const bin = Math.max(1, Math.ceil(total / MOST_POINTS));
    const xs = [];
    const lines = tasks.map(() => []);
    losses.slice(0, tasks.length).forEach((values, task) => {
      for (let from = 0; from < values.length; from += bin) {
        const part = values.slice(from, from + bin).filter(Number.isFinite);
        if (part.length === 0) continue;
        xs.push(task * steps + from + bin / 2);
        lines.forEach((line, other) => line.push(other === task ? part.reduce((a, b) => a + b, 0) / part.length : null));
      }
    });
    const last = losses.at(-1)?.at(-1);
    return {
      key: `${tasks.join("\n")} ${total}`,
      data: [xs, ...lines],
      label: last === undefined ? "Training loss: nothing yet" : `Training loss: ${last.toFixed(2)} at the last step`,
      options: {
        scales: { x: { time: false, range: [0, total] }, y: { range: (_u, _low, high) => [0, Math.max(high ?? 1, 0.5) * 1.05] } },
        padding: [8, 12, 0, 0],
        axes: [axis({ grid: { show: false }, size: 24, space: 60 }), axis({ size: 34, space: 28 })],
        series: [{}, ...tasks.map((_, task) => ({ stroke: colour(taskColour(task)), width: 1.6, points: { show: false } }))],
      },
    };
  });
}
