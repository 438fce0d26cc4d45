// The reader's own data and model: dropped or chosen files become a task, or the base.

import { byId, count } from "./dom.js";
import { chosen, dropped, nameOf } from "./files.js";

/** Wires the drop zones. `say(text)` announces, `fail(error)` shows what went wrong. */
export function ownData(session, { say, fail }) {
  const addTask = async (files) => {
    if (files.length === 0) throw new Error("There is no file in what was given.");
    const name = byId("data-name").value.trim() || nameOf(files);
    const info = await session.add({ kind: "files", name, files });
    byId("data-name").value = "";
    const what = `“${info.name}”: ${count(info.train, "sample")} to learn, ${info.test} to measure, ${count(info.labels.length, "label")}.`;
    byId("data-said").textContent = [`Added ${what}`, ...info.warnings].join(" ");
    say(`Added task ${what}`);
  };
  const useBase = async (files) => {
    if (files.length === 0) throw new Error("There is no file in what was given.");
    await session.useBase(files);
    say(`The base is now ${session.base.source}`);
  };
  dropZone(byId("data-drop"), [byId("data-files"), byId("data-folder")], addTask, fail);
  dropZone(byId("base-drop"), [byId("base-folder")], useBase, fail);
  byId("base-bundled").addEventListener("click", () => session.useBase(undefined).catch(fail));
  // A file dropped beside the zones must not replace the page.
  for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
}

/** Files that are dropped on `zone` or chosen by `inputs` go to `take`. */
export function dropZone(zone, inputs, take, fail) {
  const work = async (read) => {
    zone.setAttribute("aria-busy", "true");
    try {
      await take(await read());
    } catch (error) {
      fail(error);
    }
    zone.removeAttribute("aria-busy");
  };
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    work(() => dropped(event.dataTransfer));
  });
  for (const input of inputs) input.addEventListener("change", () => work(() => chosen(input)));
}
