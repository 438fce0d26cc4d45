// The colours of the figures: those of the native report (native/src/report/svg/theme.rs).

const STOPS = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

/** The colour scale (viridis) at `share` in 0…1: dark is low. The same on light and dark pages. */
export function ramp(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[low].map((a, i) => Math.round(a + (STOPS[low + 1][i] - a) * (place - low)));
}

/** Black or white, whichever can be read on `rgb`. */
export function inkOn(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#101010" : "#ffffff";
}

/** The value of a colour variable of the style sheet, in the scheme that is on. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The variable of a task's colour. */
export const taskColour = (index) => `s${index % 8}`;

/** Calls `then` when the reader's colour scheme changes. */
export function onSchemeChange(then) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", then);
}
