// The page around the charts: figures of the runs, samples, configurations.
import { runColor } from "./charts.js";
import { data, last, median, runs } from "./data.js";
import * as format from "./format.js";

// element("dl", {className: "figures"}, child, "text", ...)
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function chip(index) {
  const made = element("span", { className: "chip" });
  made.style.background = runColor(index);
  return made;
}

// [[what, value]] of a run, the same for all; null where the run does not tell.
function figures(run) {
  const { last: line, series, config } = run;
  const show = (value, as) => (value === null || value === undefined ? null : as(value));
  const number = (value) => (typeof value === "number" ? value : null);
  return [
    ["parameters", show(run.parameters, format.count)],
    ["tokens", show(line?.tokens, format.count)],
    ["steps", show(line?.step, (step) => (config?.train?.steps ? `${format.whole(step)} of ${format.whole(config.train.steps)}` : format.whole(step)))],
    ["last loss", show(number(line?.loss), format.loss)],
    ["validation loss", show(last(series.validation_loss), format.loss)],
    ["its perplexity", show(last(series.validation_loss), (value) => format.digits(Math.exp(value), 4))],
    ["median tokens/s", show(median(series.tokens_per_second), format.count)],
    ["median FLOP/s", show(median(series.flops_per_second), format.count)],
    ["peak memory", show(last(series.peak_bytes), format.bytes)],
    ["skipped steps", show(line?.skipped, format.whole)],
  ];
}

function about(run) {
  const model = run.config?.model ?? {};
  const parts = [model.model_type, model.num_hidden_layers && `${model.num_hidden_layers} layers`];
  if (model.hidden_size) parts.push(`width ${model.hidden_size}`);
  if (run.config?.train?.sequence_length) parts.push(`length ${format.whole(run.config.train.sequence_length)}`);
  parts.push(run.directory);
  return parts.filter(Boolean).join(" · ");
}

export function drawHeader(header) {
  header.replaceChildren();
  if (runs.length === 1) {
    const known = figures(runs[0]).filter(([, value]) => value !== null);
    const tiles = known.map(([what, value]) => element("div", {}, element("dt", {}, what), element("dd", {}, value)));
    header.append(element("h1", {}, runs[0].name), element("div", { className: "faint about" }, about(runs[0])), element("dl", { className: "figures" }, ...tiles));
    document.title = `${runs[0].name} – sluice report`;
    return;
  }
  const head = ["run", ...figures(runs[0]).map(([what]) => what)].map((what) => element("th", { scope: "col" }, what));
  const rows = runs.map((run, index) => {
    const cells = figures(run).map(([, value]) => element("td", {}, value ?? "–"));
    return element("tr", {}, element("td", { title: about(run) }, chip(index), run.name), ...cells);
  });
  const table = element("table", { className: "runs" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  header.append(element("h1", {}, `${runs.length} runs`), element("div", { className: "scrolls" }, table));
  document.title = `${runs.length} runs – sluice report`;
}

function sample(step, { prompt, text }) {
  return element("div", { className: "sample" }, element("h3", {}, `step ${format.whole(step)}`), element("pre", {}, element("span", { className: "prompt" }, prompt), text));
}

// The newest step's samples stand open, the earlier ones fold.
function samplesOf(run, index) {
  if (!run.samples.length) return [];
  const steps = run.samples.map(({ step, samples }) => samples.map((one) => sample(step, one)));
  const name = runs.length > 1 ? [element("h2", {}, chip(index), run.name)] : [];
  const earlier = steps.slice(0, -1).reverse().flat();
  const folded = earlier.length ? [element("details", {}, element("summary", {}, `${earlier.length} earlier`), ...earlier)] : [];
  return [...name, ...steps.at(-1), ...folded];
}

export function drawSamples(section) {
  const all = runs.flatMap(samplesOf);
  const none = element("p", { className: "faint" }, "None yet: train.sample_every and train.sample_prompts ask for them.");
  section.replaceChildren(element("h2", {}, "Samples"), ...(all.length ? all : [none]));
}

export function drawConfigurations(section) {
  const configured = runs.filter((run) => run.config);
  if (!configured.length) return;
  const all = configured.map((run) => element("details", {}, element("summary", {}, run.name), element("pre", {}, JSON.stringify(run.config, null, 2))));
  section.replaceChildren(element("h2", {}, "Configuration"), ...all);
}

export function drawFooter(footer) {
  const when = new Date(data.written * 1000).toLocaleString();
  footer.textContent = `Written by sluice, ${when}. Drag over a chart to zoom all of them, double-click to see everything; click a name in a legend to hide its line.`;
}
