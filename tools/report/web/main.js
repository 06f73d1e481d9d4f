// Puts the page together: which charts there are, and the settings they share.
import { Chart } from "./charts.js";
import { runs, tokensPerStep } from "./data.js";
import * as format from "./format.js";
import { drawConfigurations, drawFooter, drawHeader, drawSamples, element } from "./texts.js";

const settings = {
  smoothing: 0,
  tokens: false,  // x axis in tokens, else in steps
  zoom: null,     // [from, to] on the x axis of steps or tokens, null: all
  whole() {
    let end = 0;
    for (const run of runs) {
      for (const { x } of Object.values(run.series)) {
        if (x.length) end = Math.max(end, x.at(-1) * (this.tokens ? tokensPerStep(run) : 1));
      }
    }
    return [0, end || 1];
  },
};

function seriesLines(name, more = {}) {
  return runs.flatMap((run, index) => {
    const series = run.series[name];
    if (!series) return [];
    const scale = settings.tokens ? tokensPerStep(run) : 1;
    const x = scale === 1 ? series.x : series.x.map((step) => step * scale);
    return [{ label: runs.length > 1 ? run.name : more.label, run: index, x, y: series.y, ...more.line }];
  });
}

const bySteps = {
  group: "steps",
  xLabel: () => (settings.tokens ? "tokens" : "step"),
  xFormat: (value) => (settings.tokens ? format.count(value) : format.whole(value)),
  axisX: format.count,
  none: () => ["This run has not logged it."],
};

const specs = [
  {
    ...bySteps, id: "loss", title: "Loss", unit: "nats a token", wide: true, canLog: true, canSmooth: true, format: format.loss, axisFormat: format.plain,
    // Beside a single run's training loss stands its validation loss; with several it would be a thicket.
    lines: () => [
      ...seriesLines("loss", { label: "training" }),
      ...(runs.length === 1 ? seriesLines("validation_loss", { label: "validation", line: { run: 1, points: true } }) : []),
    ],
  },
  {
    ...bySteps, id: "validation", title: "Validation loss", unit: "nats a token", canLog: true, format: format.lossAndPerplexity, axisFormat: format.plain,
    none: () => ["No validation yet: it needs data.validation and train.validate_every."],
    lines: () => seriesLines("validation_loss", { label: "validation", line: runs.length === 1 ? { run: 1 } : {} }),
  },
  { ...bySteps, id: "learning-rate", title: "Learning rate", canLog: true, format: format.plain, lines: () => seriesLines("lr", { label: "learning rate" }) },
  {
    ...bySteps, id: "gradient-norm", title: "Gradient norm", unit: "before clipping", canLog: true, log: true, canSmooth: true, format: format.plain,
    lines: () => seriesLines("grad_norm", { label: "gradient norm" }),
  },
  {
    ...bySteps, id: "tokens-per-second", title: "Tokens per second", canSmooth: true, format: format.count,
    lines: () => seriesLines("tokens_per_second", { label: "tokens/s" }),
  },
  { ...bySteps, id: "memory", title: "Memory", unit: "peak", binary: true, format: format.bytes, lines: () => seriesLines("peak_bytes", { label: "peak" }) },
  {
    id: "perplexity", title: "Perplexity by position", logX: true, canLog: true, format: format.plain, xLabel: () => "position", xFormat: format.whole,
    axisX: (value) => (value >= 1024 ? `${value / 1024}K` : String(value)),
    none: () => ["No evaluation yet: ", element("code", {}, `evaluate --checkpoint ${runs[0].directory} --data … --json ${runs[0].directory}/evaluation.json`), " writes it."],
    // Several runs are compared at the longest length each was measured at.
    lines: () => runs.flatMap((run, index) => {
      const lengths = [...(run.perplexity ?? [])].sort((a, b) => a.length - b.length);
      if (runs.length === 1) return lengths.map(({ length, x, y }, i) => ({ label: `length ${format.whole(length)}`, run: i, x, y }));
      return lengths.slice(-1).map(({ length, x, y }) => ({ label: `${run.name}, length ${format.whole(length)}`, run: index, x, y }));
    }),
  },
];

const charts = specs.map((spec) => new Chart(spec, settings, zoomTo));
const sharing = charts.filter((chart) => chart.spec.group);
const drawAll = () => charts.forEach((chart) => chart.draw());

const wholeButton = element("button", { type: "button", textContent: "Show everything", disabled: true });
wholeButton.addEventListener("click", () => zoomTo(bySteps, null));

function zoomTo(spec, zoom) {
  if (!spec.group) {
    charts.find((chart) => chart.spec === spec).zoomAlone(zoom);
    return;
  }
  settings.zoom = zoom;
  wholeButton.disabled = zoom === null;
  sharing.forEach((chart) => chart.rescale());
}

function drawControls(form) {
  const strength = element("output", {}, "0");
  const slider = element("input", { type: "range", id: "smoothing", min: 0, max: 0.99, step: 0.01, value: 0 });
  slider.addEventListener("input", () => {
    settings.smoothing = Number(slider.value);
    strength.textContent = slider.value;
    charts.filter((chart) => chart.spec.canSmooth).forEach((chart) => chart.draw());
  });
  const axis = element("select", { id: "axis" }, element("option", { value: "steps" }, "steps"), element("option", { value: "tokens" }, "tokens"));
  axis.addEventListener("change", () => {
    settings.tokens = axis.value === "tokens";
    settings.zoom = null;
    wholeButton.disabled = true;
    drawAll();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(element("label", {}, "Smoothing", slider, strength), element("label", {}, "Along", axis), wholeButton);
}

function drawTexts() {
  drawHeader(document.getElementById("header"));
  drawSamples(document.getElementById("samples"));
}

drawTexts();
drawControls(document.getElementById("controls"));
drawConfigurations(document.getElementById("configurations"));
drawFooter(document.getElementById("footer"));
document.getElementById("charts").append(...charts.map((chart) => chart.element));
drawAll();
new ResizeObserver(() => charts.forEach((chart) => chart.resize())).observe(document.getElementById("charts"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  drawTexts();
  drawAll();
});
