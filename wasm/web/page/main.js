// The page: the session on one side, what is seen of it on the other.

import { Ask } from "./ask.js";
import { taskColour } from "./colours.js";
import { ownData } from "./data.js";
import { byId, el } from "./dom.js";
import { throttled } from "./frames.js";
import { keeping, loadedBanner, refreshKeeping } from "./keep.js";
import { LearnerView } from "./learner-view.js";
import { METHODS } from "./methods.js";
import { Session } from "./session.js";
import { Teach } from "./teach.js";

const session = new Session();
const views = [0, 1].map((index) => new LearnerView(document.querySelectorAll(".learner")[index], index, { method: (name) => chooseMethod(index, name), layer: showLayer }));
let loaded = null; // results from a file, shown in place of the session's
const ask = new Ask(session);
const teach = new Teach(session, ask, { say, fail });
const askAgain = throttled(() => ask.again(), 400);

/** Tells those who can't see the page. */
function say(text) {
  byId("live").textContent = text;
}

/** A banner: `kind` is "error" or "warning". One text is shown once. */
function notice(kind, text, ...more) {
  const shown = [...byId("notices").children].find((n) => n.dataset.text === text);
  shown?.remove();
  const close = el("button", { type: "button", class: "close", "aria-label": "Dismiss this message", onclick: () => banner.remove() }, "×");
  const banner = el("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" }, el("p", {}, text), ...more, close);
  banner.dataset.text = text;
  byId("notices").prepend(banner);
  return banner;
}

function fail(error) {
  if (error.code === "device-lost") return; // told once, by the session
  notice("error", error.message || String(error));
  if (!(error.code === "input" || error.constructor === Error)) console.warn(error);
}

const guarded = (work) => (event) => {
  event?.preventDefault();
  return Promise.resolve(work(event)).catch(fail);
};

// ---- settings

const NUMBERS = { tasks: [0, 5], steps: [1, 5000], rank: [1, 64], seed: [0, 4294967295], batch: [1, 256], testImages: [1, 1000] };

for (const [key, [least, most]] of Object.entries(NUMBERS)) {
  const input = byId(key);
  Object.assign(input, { min: least, max: most });
  input.addEventListener(
    "change",
    guarded(async () => {
      const value = Number(input.value);
      if (input.value === "" || !Number.isInteger(value) || value < least || value > most) {
        input.value = session.settings[key];
        throw new Error(`${input.labels[0].textContent} must be a whole number from ${least} to ${most}.`);
      }
      await session.change({ [key]: value });
    }),
  );
}

async function chooseMethod(index, name) {
  const methods = session.settings.methods.map((method, i) => (i === index ? name : method));
  await session.change({ methods }).catch(fail);
}

function showLayer(layer) {
  for (const view of views) view.show(layer);
}

byId("device-choice").addEventListener("change", guarded(async () => {
  const device = byId("device-choice").value;
  const before = session.settings.device;
  await session.change({ device });
  await boot({}).catch(async (error) => {
    await session.change({ device: before });
    await boot({});
    throw error;
  });
}));

// ---- training

byId("controls").addEventListener("submit", guarded(() => {
  leaveLoaded();
  return session.start();
}));
byId("pause").addEventListener("click", guarded(() => (session.state === "paused" ? session.resume() : session.pause())));
byId("stop").addEventListener("click", guarded(() => session.stop()));

function refresh() {
  const { state, began } = session;
  const running = state === "running" || state === "paused";
  byId("start").disabled = state !== "idle" || !session.hasPending;
  byId("start").textContent = began ? "Continue" : "Start";
  byId("pause").disabled = !running;
  byId("pause").textContent = state === "paused" ? "Resume" : "Pause";
  byId("stop").disabled = !running;
  for (const key of Object.keys(NUMBERS)) {
    if (document.activeElement !== byId(key)) byId(key).value = session.settings[key];
    byId(key).disabled = state === "starting" || running || (began && key !== "tasks");
  }
  byId("device-choice").value = session.settings.device;
  byId("device-choice").disabled = state !== "idle" && state !== "failed";
  views.forEach((view) => (view.select.disabled = began || state !== "idle"));
  byId("locked").hidden = !began;
  document.body.dataset.state = state;
  refreshKeeping(session);
  teach.refresh();
}

const REST = { idle: "", paused: "paused", stopping: "stopping…", lost: "the device was lost", starting: "loading…", failed: "" };

session.addEventListener("state", () => {
  if (session.state === "starting") ask.reset();
  refresh();
  if (session.state in REST && session.state !== "stopping") {
    views.forEach((view, index) => view.rest(REST[session.state] || restingText(session.slots[index])));
  }
  if (session.state === "idle") ask.again();
});

function restingText(slot) {
  if (!slot) return "";
  const [learnt, left] = [slot.results?.accuracy.length ?? 0, session.pending(slot).length];
  if (!slot.began) return "ready";
  return left === 0 ? `all ${learnt} learnt` : `${learnt} of ${learnt + left} learnt`;
}

session.addEventListener("tasks", () => {
  showTasks();
  refresh();
});

function showTasks() {
  if (loaded !== null) return;
  const names = Object.fromEntries(session.tasks.map((task) => [task.id, task.name]));
  session.slots.forEach((slot, index) => {
    const tasks = session.plan(slot).map((id) => names[id] ?? "…");
    views[index].setup({ method: slot.method, tasks, steps: slot.learner.options.steps ?? session.settings.steps, layers: session.base.layers });
    views[index].measured(slot.results);
    if (session.state === "idle") views[index].rest(restingText(slot));
  });
  const labels = new Set([...session.base.labels, ...session.own.flatMap(({ info }) => info.labels)]);
  byId("known-labels").replaceChildren(...[...labels].slice(0, 400).map((label) => el("option", { value: label })));
  const own = session.own.map(({ info }) => el("li", {}, info.name, el("small", {}, ` ${info.train} + ${info.test}`)));
  byId("own-tasks").replaceChildren(...own);
  showPlan(session.slots[0] ? session.plan(session.slots[0]).map((id) => names[id] ?? "…") : []);
}

function showPlan(tasks) {
  const items = tasks.map((task, j) => {
    const item = el("li", {}, task);
    item.style.setProperty("--task", `var(--${taskColour(j)})`);
    return item;
  });
  byId("plan").replaceChildren(...items);
}

session.addEventListener("results", ({ detail: { slot } }) => {
  if (loaded === null) {
    showTasks();
    views[slot].measured(session.slots[slot].results);
  }
  refresh();
});

session.addEventListener("progress", ({ detail: { slot, progress } }) => {
  if (loaded === null) views[slot].progress(progress);
  if (progress.kind === "learnt") {
    const { method } = session.slots[slot];
    const accuracy = progress.accuracy[progress.task];
    say(`${METHODS[method]} has learnt ${views[slot].tasks[progress.task]}: ${accuracy?.toFixed(1)} %`);
  }
  if (progress.kind === "learnt" || progress.kind === "spectrum") if (!ask.pad.isEmpty) askAgain();
});

session.addEventListener("warning", ({ detail: { text } }) => notice("warning", text));

session.addEventListener("lost", ({ detail: { text } }) => {
  const again = (device) => guarded(async () => {
    banner.remove();
    if (device !== null) await session.change({ device });
    await boot({});
  });
  const banner = notice(
    "error",
    `The device was lost: ${text}. What was learnt up to the last finished task is kept.`,
    el("p", { class: "actions" },
      el("button", { type: "button", onclick: again(null) }, "Try the device again"),
      el("button", { type: "button", onclick: again("cpu") }, "Go on on the CPU")),
  );
  banner.id = "lost";
});

// A page in the background may be thrown away.
document.addEventListener("visibilitychange", () => document.hidden && session.keepNow());

// ---- what it runs on

session.addEventListener("device", () => {
  const { device, version } = session.eblora;
  const kind = device.kind === "webgpu" ? "WebGPU" : "CPU";
  byId("device").textContent = device.name.startsWith(kind) ? device.name : `${kind} · ${device.name}`;
  byId("device").dataset.kind = device.software ? "software" : device.kind;
  byId("device-note").textContent = device.note ?? "";
  byId("device-note").hidden = device.note === null;
  byId("device-note").classList.toggle("warning", device.software);
  byId("version").textContent = version;
  byId("base-name").textContent = session.base.source === "bundled" ? "the bundled digit model" : session.base.source;
});

// ---- results from a file

function show(learners, name) {
  loaded = learners;
  byId("loaded").replaceChildren(loadedBanner(name, leaveLoaded));
  learners.forEach(({ method, options, results }, index) => {
    views[index].setup({ method, tasks: results?.tasks ?? [], steps: options?.steps ?? 1, layers: session.base.layers });
    views[index].measured(results);
    views[index].rest(`from ${name}`);
  });
  showPlan(learners.map(({ results }) => results?.tasks ?? []).sort((a, b) => b.length - a.length)[0]);
  byId("train").scrollIntoView();
  say(`Showing the results in ${name}`);
}

function leaveLoaded() {
  if (loaded === null) return;
  loaded = null;
  byId("loaded").replaceChildren();
  showTasks();
}

ownData(session, { say, fail });
keeping(session, { say, fail, show });

// ---- start

async function boot(override) {
  loaded = null;
  byId("loaded").replaceChildren();
  await session.boot(override);
}

byId("not-served")?.remove();
refresh();
const wanted = new URLSearchParams(location.search).get("device");
boot(["auto", "webgpu", "cpu"].includes(wanted) ? { device: wanted } : {}).catch(fail);
// For tests and the curious.
globalThis.eblora = { session, ask };
