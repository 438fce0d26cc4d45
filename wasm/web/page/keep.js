// Downloads, and the way back: adapters in PEFT's layout, results as JSON.

import { byId, el } from "./dom.js";
import { chosen, download } from "./files.js";
import { METHODS } from "./methods.js";
import { zip } from "./zip.js";

const SCHEMA = "eblora.browser-results";

/** Wires the downloads. `show(learners)` shows loaded results: { method, options, results } each. */
export function keeping(session, { say, fail, show }) {
  const guarded = (work) => () => work().catch(fail);
  [0, 1].forEach((index) => {
    byId(`export-${index}`).addEventListener("click", guarded(() => exportAdapters(session, index)));
    byId(`import-${index}`).addEventListener(
      "change",
      guarded(async () => {
        const files = await chosen(byId(`import-${index}`));
        if (files.length === 0) return;
        await session.importInto(index, files);
        say(`Loaded the adapters into ${METHODS[session.slots[index].method]}`);
      }),
    );
  });
  byId("save-results").addEventListener("click", guarded(() => saveResults(session)));
  byId("load-results").addEventListener(
    "change",
    guarded(async () => {
      const [file] = await chosen(byId("load-results"));
      if (!file) return;
      show(readResults(file), file.name);
    }),
  );
  const dialog = byId("start-over");
  byId("ask-start-over").addEventListener("click", () => dialog.showModal());
  dialog.addEventListener(
    "close",
    guarded(async () => {
      const choice = dialog.returnValue;
      dialog.returnValue = "";
      if (choice === "learnt" || choice === "everything") {
        await session.forget({ everything: choice === "everything" });
        say("Started over");
      }
    }),
  );
}

/** What the buttons may do now. */
export function refreshKeeping(session) {
  const resting = session.state === "idle";
  const busy = !resting;
  session.slots.forEach((slot, index) => {
    const learnt = slot.results?.accuracy.length > 0;
    byId(`export-${index}`).disabled = busy || !learnt;
    byId(`import-${index}`).disabled = busy;
    for (const name of document.querySelectorAll(`.name-${index}`)) name.textContent = METHODS[slot.method];
  });
  byId("save-results").disabled = !session.slots.some((slot) => slot.results?.accuracy.length > 0);
  byId("ask-start-over").disabled = session.state === "starting" || session.state === "stopping";
  for (const id of ["data-files", "data-folder", "base-folder", "base-bundled"]) byId(id).disabled = busy;
  byId("base-bundled").hidden = session.base === null || session.base.source === "bundled";
}

async function exportAdapters(session, index) {
  const { learner, method } = session.slots[index];
  download(`eblora-${method}-adapters.zip`, zip(await learner.exportAdapters()));
}

async function saveResults(session) {
  const learners = session.slots.map(({ method, learner, results }) => ({ method, options: learner.options, results }));
  const { eblora, base } = session;
  const all = { schema: SCHEMA, version: 1, eblora_version: eblora.version, device: eblora.device.name, base: base.source, learners };
  download("eblora-results.json", new Blob([JSON.stringify(all, null, 1)], { type: "application/json" }));
}

/** The learners in a file that `saveResults` wrote; an error says what is wrong with another one. */
export function readResults({ name, bytes }) {
  let all;
  try {
    all = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Error(`${name} is not JSON: ${error.message}`);
  }
  if (all?.schema !== SCHEMA) throw new Error(`${name} holds no results of this page: its “schema” is not “${SCHEMA}”.`);
  if (all.version !== 1) throw new Error(`${name} is of version ${all.version}; this page reads version 1.`);
  const isRow = (row, n) => Array.isArray(row) && row.length === n && row.every((x) => x === null || Number.isFinite(x));
  const isLearner = ({ method, results: r } = {}) =>
    method in METHODS &&
    (r === null ||
      (Array.isArray(r?.tasks) &&
        isRow(r.zeroShot, r.tasks.length) &&
        Array.isArray(r.accuracy) &&
        r.accuracy.length <= r.tasks.length &&
        r.accuracy.every((row) => isRow(row, r.tasks.length)) &&
        Array.isArray(r.losses)));
  if (!(Array.isArray(all.learners) && all.learners.length === 2 && all.learners.every(isLearner))) {
    throw new Error(`${name} is damaged: its “learners” are not two learners with their results.`);
  }
  return all.learners;
}

/** A banner that goes back to the session. */
export function loadedBanner(name, back) {
  return el("p", {}, `These are the results in ${name}. `, el("button", { type: "button", onclick: back }, "Back to this session"));
}
