// Measures each device there is: a row of the table each. `?run` starts at once, `?size=128` chooses the matrix,
// `?device=cpu` one device alone.

import { open } from "../eblora/eblora.js";
import { byId, el } from "./dom.js";

const UNITS = { matmul: "GFLOP/s", step: "ms", readback: "ms" };
const options = new URLSearchParams(location.search);

async function measure(kind, size) {
  const row = el("tr", {}, el("th", { scope: "row" }, kind === "cpu" ? "wasm, CPU" : "WebGPU"), ...Object.keys(UNITS).map(() => el("td", {}, "…")));
  byId("rows").append(row);
  let eblora;
  try {
    eblora = await open({ device: kind });
    if (eblora.device.kind !== kind) throw new Error(eblora.device.note ?? `there is no ${kind} here`);
    row.firstChild.append(el("small", {}, ` ${eblora.device.name}${eblora.device.software ? " (software)" : ""}`));
    await eblora.base();
    for (const [i, what] of Object.keys(UNITS).entries()) {
      byId("said").textContent = `${kind}: ${what}`;
      const { name, value, unit } = await eblora.bench(what, what === "matmul" ? size : undefined);
      row.children[i + 1].textContent = unit === UNITS[what] ? value.toPrecision(3) : `${value.toPrecision(3)} ${unit}`;
      row.children[i + 1].title = name;
    }
  } catch (error) {
    const missing = [...row.querySelectorAll("td")].filter((cell) => cell.textContent === "…");
    missing[0]?.before(el("td", { class: "why", colspan: missing.length }, error.message));
    missing.forEach((cell) => cell.remove());
  }
  eblora?.close();
}

async function run() {
  byId("run").disabled = true;
  byId("rows").replaceChildren();
  for (const kind of ["webgpu", "cpu"]) {
    if (options.get("device") === null || options.get("device") === kind) await measure(kind, Number(byId("size").value));
  }
  byId("said").textContent = "done";
  byId("run").disabled = false;
}

if (options.has("size")) {
  const size = String(Number(options.get("size")));
  if (![...byId("size").options].some((option) => option.value === size)) byId("size").append(el("option", {}, size));
  byId("size").value = size;
}
byId("run").addEventListener("click", run);
if (options.has("run")) run();
