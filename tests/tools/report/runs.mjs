// Directories of runs as `train` leaves them, made of formulas.
import { mkdirSync, writeFileSync } from "node:fs";

export const kHostile = "</script><script>document.title='taken'</script><!-- <b>&amp; \u2028 \\\" $&";

// Steps 1 to `steps`, a validation every tenth, samples at two of them.
export function writeRun(directory, name, steps, { floor = 2, evaluated = true } = {}) {
  mkdirSync(directory, { recursive: true });
  const lines = [];
  const times = [];
  for (let step = 1; step <= steps; ++step) {
    const loss = floor + 6 * Math.exp(-8 * step / steps) + 0.1 * Math.sin(step * 1.7);
    const skipped = step > steps / 2 ? 1 : 0;
    lines.push({ step, loss: step === steps >> 1 ? "nan" : loss, grad_norm: 0.4 + 3 * Math.exp(-step / 20), lr: 3e-3 * Math.min(1, step / 40), tokens: 2048 * step, skipped });
    if (step % Math.ceil(steps / 10) === 0) lines.push({ step, validation_loss: loss + 0.05, validation_tokens: 512 });
    if (step === 1 || step === steps) lines.push({ step, prompt: `${name} at ${step} `, sample: kHostile });
    times.push({ step, seconds: 0.5, tokens_per_second: 4096 + 300 * Math.sin(step), flops_per_second: 2e11, peak_bytes: 300e6 });
  }
  const text = (all) => all.map((line) => `${JSON.stringify(line)}\n`).join("");
  writeFileSync(`${directory}/log.jsonl`, text(lines));
  writeFileSync(`${directory}/timing.jsonl`, text(times));
  const model = { model_type: "gla", vocab_size: 256, hidden_size: 64, num_hidden_layers: 2, num_heads: 2 };
  writeFileSync(`${directory}/run.json`, JSON.stringify({ name, model, train: { steps, sequence_length: 128 } }));
  if (!evaluated) return;
  const results = [128, 2048].map((length) => ({
    length,
    buckets: Array.from({ length: Math.log2(length) - 5 }, (_, i) => ({ begin: i ? 32 * 2 ** i : 0, end: 64 * 2 ** i, perplexity: 15 - i / 2 })),
  }));
  writeFileSync(`${directory}/evaluation.json`, JSON.stringify({ results }));
}
