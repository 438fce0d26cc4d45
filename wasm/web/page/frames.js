// Drawing, a little at a time: each picture is redrawn at most some times a second, and one frame draws for 8 ms at most, so
// that training never makes the page stutter. Where nothing is due, no frame is asked for.

const LEAST_MS = 120;
const BUDGET_MS = 8;
const waiting = new Set();
let asked = false;

/** Makes `draw` a function that may be called at any rate: it runs in an animation frame, at most every `least` ms. */
export function throttled(draw, least = LEAST_MS) {
  const job = { draw, least, last: -Infinity };
  return () => {
    waiting.add(job);
    wake();
  };
}

const due = (job) => job.last + job.least;

function wake() {
  if (asked || waiting.size === 0) return;
  asked = true;
  const wait = Math.min(...[...waiting].map(due)) - performance.now();
  if (wait > 0) setTimeout(() => requestAnimationFrame(frame), wait);
  else requestAnimationFrame(frame);
}

function frame() {
  asked = false;
  const start = performance.now();
  try {
    for (const job of [...waiting].sort((a, b) => due(a) - due(b))) {
      const now = performance.now();
      if (now - start > BUDGET_MS || due(job) > now) break;
      waiting.delete(job);
      job.last = now;
      job.draw();
    }
  } finally {
    wake();
  }
}
