// Numbers as people read them.

const kScales = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "K"]];

// 987, 12.3K, 4.56M: three digits and a letter.
export function count(value) {
  for (const [size, letter] of kScales) {
    if (Math.abs(value) >= size) return trim((value / size).toPrecision(3)) + letter;
  }
  return trim(digits(value, 3));
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    ++unit;
  }
  return `${trim(digits(value, 3))} ${units[unit]}`;
}

// `places` significant digits; never fewer than an integer has, and powers of ten only far from 1.
export function digits(value, places) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(Math.max(places - 2, 0));
  if (size >= 10 ** (places - 1)) return value.toFixed(0);
  return value.toPrecision(places);
}

function trim(text) {
  return /^-?\d+\.\d+$/.test(text) ? text.replace(/\.?0+$/, "") : text;
}

export const plain = (value) => trim(digits(value, 4));
export const whole = (value) => Math.round(value).toLocaleString("en-US");
export const loss = (value) => value.toFixed(4);
export const lossAndPerplexity = (value) => `${value.toFixed(4)} (perplexity ${digits(Math.exp(value), 4)})`;
