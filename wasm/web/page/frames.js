// Drawing, a little at a time: each picture is redrawn at most some times a second, and one frame draws for 8 ms at most, so
// that training never makes the page stutter.

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

function wake() {
  if (!asked) {
    asked = true;
    requestAnimationFrame(frame);
  }
}

function run(job, now) {
  waiting.delete(job);
  job.last = now;
  job.draw();
}

function frame() {
  asked = false;
  const start = performance.now();
  try {
    for (const job of [...waiting]) {
      const now = performance.now();
      if (now - start > BUDGET_MS) break;
      if (now - job.last >= job.least) run(job, now);
    }
  } finally {
    if (waiting.size > 0) wake();
  }
}
