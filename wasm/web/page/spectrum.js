// The singular values of an update as bars that move: one high bar is an update of one direction, a level row a balanced one.

import { el } from "./dom.js";

/** Bars in `place`; call the result with the singular values, largest first, or null. `say` shows the words beneath. */
export function spectrum(place, say) {
  let bars = [];
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", "Singular values: none yet");
  return (values) => {
    const shown = values ?? [];
    if (bars.length !== shown.length) {
      bars = shown.map(() => el("i"));
      place.replaceChildren(...bars);
    }
    const most = Math.max(...shown, 0);
    bars.forEach((bar, i) => (bar.style.transform = `scaleY(${most > 0 ? Math.max(shown[i] / most, 0.004) : 0})`));
    const words = most > 0 ? describe(shown) : "nothing learnt yet";
    if (say.textContent !== words) say.textContent = words;
    place.setAttribute("aria-label", `Singular values of the update: ${words}`);
  };
}

function describe(values) {
  const energy = values.map((value) => value * value);
  const total = energy.reduce((a, b) => a + b, 0);
  const shares = energy.map((e) => e / total);
  const entropy = -shares.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
  const largest = values[0] >= 100 || values[0] < 0.001 ? values[0].toExponential(1) : values[0].toPrecision(2);
  return `strongest direction ${(100 * shares[0]).toFixed(0)} % of the energy · effective rank ${Math.exp(entropy).toFixed(1)} of ${values.length} · σ₁ ${largest}`;
}
