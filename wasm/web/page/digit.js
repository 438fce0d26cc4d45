// A drawing as MNIST's digits are: the ink in a box of 20/28 of the side, its centre of mass in the middle.

const INNER = 20 / 28;

/**
 * The bytes that a model takes, of ink (0…255) on `width`×`height` points: `shape` is { channels, height, width }.
 * All zero when there is no ink.
 */
export function asDigit(ink, width, height, shape) {
  const grey = centred(ink, width, height, shape.width, shape.height);
  if (shape.channels === 1) return grey;
  const pixels = new Uint8Array(grey.length * shape.channels);
  for (let c = 0; c < shape.channels; c++) pixels.set(grey, c * grey.length);
  return pixels;
}

function centred(ink, width, height, outWidth, outHeight) {
  const out = new Uint8Array(outWidth * outHeight);
  const box = inkBox(ink, width, height);
  if (box === null) return out;
  const scale = (INNER * Math.min(outWidth, outHeight)) / Math.max(box.width, box.height);
  const [x, y] = [(outWidth - 1) / 2 + 0.5 - box.massX * scale, (outHeight - 1) / 2 + 0.5 - box.massY * scale];
  for (let row = 0; row < outHeight; row++) {
    for (let column = 0; column < outWidth; column++) {
      // The part of the drawing that this pixel covers.
      const [left, top] = [(column - x) / scale, (row - y) / scale];
      out[row * outWidth + column] = Math.round(area(ink, width, height, left, top, 1 / scale));
    }
  }
  return out;
}

/** The box of the ink, and its centre of mass. */
function inkBox(ink, width, height) {
  let [left, right, top, bottom, sum, sumX, sumY] = [width, -1, height, -1, 0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = ink[y * width + x];
      if (value < 8) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
      sum += value;
      sumX += value * (x + 0.5);
      sumY += value * (y + 0.5);
    }
  }
  if (sum === 0) return null;
  return { width: right - left + 1, height: bottom - top + 1, massX: sumX / sum, massY: sumY / sum };
}

/** Mean ink over the square of side `side` at (left, top); nothing is outside. */
function area(ink, width, height, left, top, side) {
  const [x0, x1] = [Math.max(left, 0), Math.min(left + side, width)];
  const [y0, y1] = [Math.max(top, 0), Math.min(top + side, height)];
  if (x1 <= x0 || y1 <= y0) return 0;
  let sum = 0;
  for (let y = Math.floor(y0); y < y1; y++) {
    const high = Math.min(y + 1, y1) - Math.max(y, y0);
    for (let x = Math.floor(x0); x < x1; x++) {
      sum += ink[y * width + x] * high * (Math.min(x + 1, x1) - Math.max(x, x0));
    }
  }
  return sum / (side * side);
}

// Where each pixel of a `side`×`side` picture comes from, as the bundled tasks make theirs (native/src/data/mix.rs).
const SOURCE = {
  turned: (x, y, side) => x * side + (side - 1 - y),
  upside: (x, y, side) => side * side - 1 - (y * side + x),
  pieces: (x, y, side) => {
    const patch = side / 4;
    const from = PIECES[Math.floor(y / patch) * 4 + Math.floor(x / patch)];
    return (Math.floor(from / 4) * patch + (y % patch)) * side + (from % 4) * patch + (x % patch);
  },
};
const PIECES = [11, 14, 6, 15, 0, 2, 1, 10, 3, 4, 5, 8, 9, 13, 7, 12];

/** `pixels` seen another way: `turned` to the left, `upside` down, `inverted`, or in `pieces`; else as they are. */
export function seen(pixels, shape, view) {
  const { width: side, height, channels } = shape;
  if (view === "inverted") return pixels.map((value) => 255 - value);
  const source = SOURCE[view];
  if (!source || side !== height || side % 4 !== 0) return pixels;
  const out = new Uint8Array(pixels.length);
  for (let c = 0; c < channels; c++) {
    const plane = c * side * side;
    for (let at = 0; at < side * side; at++) {
      out[plane + at] = pixels[plane + source(at % side, Math.floor(at / side), side)];
    }
  }
  return out;
}
