// The runs as the program wrote them into the page:
//   {written: seconds since 1970, runs: [{
//     name, directory, parameters?, config?: run.json, last?: the last training line of log.jsonl,
//     series: {NAME: {x: [step ...], y: [number or null ...]}},   x ascends; null is not finite
//     samples: [{step, samples: [{prompt, text} ...]} ...],       steps ascend
//     perplexity?: [{length, x: [position ...], y: [...]} ...]}]}
export const data = JSON.parse(document.getElementById("data").textContent);
export const runs = data.runs;

// Tokens of a step, for an axis of tokens; a run has as many in every step.
export function tokensPerStep(run) {
  return run.last && run.last.step > 0 ? run.last.tokens / run.last.step : 1;
}

// An exponential mean over past points, undistorted at its start; what is no number is passed over.
export function smooth(values, weight) {
  let sum = 0;
  let total = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

export function last(series) {
  if (!series) return null;
  for (let i = series.y.length - 1; i >= 0; --i) {
    if (series.y[i] !== null) return series.y[i];
  }
  return null;
}

export function median(series) {
  const values = (series ? series.y : []).filter((value) => value !== null).sort((a, b) => a - b);
  return values.length ? values[values.length >> 1] : null;
}
