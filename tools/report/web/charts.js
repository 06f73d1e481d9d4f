// One chart of the page: uPlot with this page's colors, axes, zoom and legend.
import uPlot from "uplot";
import { smooth } from "./data.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const runColor = (index) => color(`--run-${index % 8}`);

// Marks of a logarithmic axis: powers of `base`, between them where there is room, plain steps within a decade.
function logSplits(low, high, base, room) {
  if (base === 10 && high / low < 12) {
    const step = niceStep((high - low) / room);
    const splits = [];
    for (let value = Math.ceil(low / step) * step; value <= high * (1 + 1e-9); value += step) splits.push(value);
    return splits;
  }
  const first = Math.floor(Math.log(low) / Math.log(base) + 1e-9);
  const last = Math.ceil(Math.log(high) / Math.log(base) - 1e-9);
  const stride = Math.max(1, Math.ceil((last - first) / room));
  const between = base === 10 && 3 * (last - first) <= room ? [1, 2, 5] : [1];
  const splits = [];
  for (let exponent = first; exponent <= last; exponent += stride) {
    for (const factor of between) splits.push(factor * base ** exponent);
  }
  return splits.filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

// The point of a line that is nearest to the cursor; none where the line has begun not yet or ended.
function nearestPoint(chart, seriesIndex, index) {
  const values = chart.data[seriesIndex];
  if (seriesIndex === 0 || values[index] != null) return index;
  let left = index - 1;
  while (left >= 0 && values[left] == null) --left;
  let right = index + 1;
  while (right < values.length && values[right] == null) ++right;
  if (left < 0 || right >= values.length) return index;
  const x = chart.data[0];
  return x[index] - x[left] <= x[right] - x[index] ? left : right;
}

const kBinarySteps = Array.from({ length: 51 }, (_, i) => 2 ** i);

// spec: {id, title, unit?, group?, wide?, logX?, canLog?, log?, canSmooth?, binary?, format, axisFormat?, axisX, xLabel(), xFormat,
//        none(): what to show without lines, lines(): [{label, run, x, y, points?}]}
export class Chart {
  constructor(spec, settings, onZoom) {
    this.spec = spec;
    this.settings = settings;
    this.onZoom = onZoom;
    this.log = spec.log ?? false;
    this.element = document.createElement("article");
    this.element.className = spec.wide ? "chart wide" : "chart";
    this.element.id = `chart-${spec.id}`;
    const header = this.element.appendChild(document.createElement("header"));
    const title = header.appendChild(document.createElement("h2"));
    title.textContent = spec.title;
    if (spec.unit) title.appendChild(document.createElement("small")).textContent = spec.unit;
    if (spec.canLog && spec.lines().length) header.appendChild(this.logButton());
    this.body = this.element.appendChild(document.createElement("div"));
  }

  logButton() {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "log axis";
    button.setAttribute("aria-pressed", String(this.log));
    button.addEventListener("click", () => {
      this.log = !this.log;
      button.setAttribute("aria-pressed", String(this.log));
      this.draw();
    });
    return button;
  }

  // A table for each line, joined by uPlot into one column of x.
  tables() {
    const weight = this.spec.canSmooth ? this.settings.smoothing : 0;
    const usable = (y) => (this.log ? y.map((value) => (value > 0 ? value : null)) : y);
    const tables = [];
    const series = [];
    for (const line of this.spec.lines()) {
      const stroke = runColor(line.run);
      if (weight > 0 && !line.points) {
        tables.push([line.x, usable(line.y)]);
        series.push({ label: `${line.label} as logged`, stroke: `${stroke}48`, width: 1, class: "raw" });
      }
      tables.push([line.x, usable(weight > 0 && !line.points ? smooth(line.y, weight) : line.y)]);
      const few = line.x.length <= 60;
      series.push({
        label: line.label,
        stroke,
        width: 1.6,
        ...(line.points && { paths: () => null }),
        points: { show: few, size: line.points ? 8 : 5, fill: stroke, stroke: color("--panel"), width: 1 },
        value: (_, value) => (value == null ? "–" : this.spec.format(value)),
      });
    }
    return { tables, series };
  }

  options(series) {
    const { spec } = this;
    const axis = { stroke: color("--faint"), grid: { stroke: color("--grid"), width: 1 }, font: "12px system-ui, sans-serif" };
    axis.ticks = { stroke: color("--grid"), width: 1, size: 4 };
    const format = spec.axisFormat ?? spec.format;
    const logRange = (_, low, high) => (low > 0 ? [low / 1.04, high * 1.04] : [0.1, 10]);
    const height = spec.wide ? 330 : 220;
    return {
      width: Math.max(this.body.clientWidth, 200),
      height,
      padding: [8, 14, 0, 0],
      series: [{ label: spec.xLabel(), value: (_, value) => (value == null ? "–" : spec.xFormat(value)) }, ...series.map((one) => ({ spanGaps: true, ...one }))],
      scales: {
        x: spec.logX ? { time: false, distr: 3, log: 2, range: logRange } : { time: false, range: () => this.settings.zoom ?? this.settings.whole() },
        y: this.log ? { distr: 3, log: 10, range: logRange } : {},
      },
      axes: [
        {
          ...axis,
          space: 70,
          size: 34,
          values: (_, splits) => splits.map((value) => (value == null ? "" : spec.axisX(value))),
          ...(spec.logX && { splits: (_, __, low, high) => logSplits(low, high, 2, 9), filter: (_, splits) => splits }),
        },
        {
          ...axis,
          size: 62,
          ...(spec.binary && { incrs: kBinarySteps }),
          values: (_, splits) => splits.map((value) => (value == null ? "" : format(value))),
          ...(this.log && { splits: (_, __, low, high) => logSplits(low, high, 10, height / 42), filter: (_, splits) => splits }),
        },
      ],
      cursor: {
        dataIdx: nearestPoint,
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false, setScale: false },
        focus: { prox: 24 },
        ...(spec.group && { sync: { key: spec.group, scales: ["x", null], setSeries: false } }),
        bind: { dblclick: () => () => this.onZoom(spec, null) },
      },
      focus: { alpha: 0.35 },
      legend: { markers: { width: 0, fill: (chart, index) => chart.series[index].stroke() } },
      hooks: {
        setSelect: [
          (chart) => {
            const { left, width } = chart.select;
            if (width < 4) return;
            const zoom = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
            chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            this.onZoom(spec, zoom);
          },
        ],
      },
    };
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    this.body.replaceChildren();
    const { tables, series } = this.tables();
    if (!tables.length) {
      const none = this.body.appendChild(document.createElement("div"));
      none.className = "none";
      none.append(...this.spec.none());
      return;
    }
    this.plot = new uPlot(this.options(series), uPlot.join(tables), this.body);
  }

  // Redraws with the zoom of the settings.
  rescale() {
    if (!this.plot) return;
    const [min, max] = this.settings.zoom ?? this.settings.whole();
    this.plot.setScale("x", { min, max });
  }

  // Zoom of a chart that shares its x axis with none.
  zoomAlone(zoom) {
    if (zoom) this.plot.setScale("x", { min: zoom[0], max: zoom[1] });
    else this.draw();
  }

  resize() {
    this.plot?.setSize({ width: Math.max(this.body.clientWidth, 200), height: this.plot.height });
  }
}
