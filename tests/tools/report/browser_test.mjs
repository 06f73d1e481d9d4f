// node browser_test.mjs REPORT CHROMIUM FOLDER [SCREENSHOTS]: what a reader of a report sees, asked of the page itself.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { chromium } from "playwright-core";
import { kHostile, writeRun } from "./runs.mjs";

const [report, executablePath, folder, screenshots] = process.argv.slice(2);
const kCharts = ["loss", "validation", "learning-rate", "gradient-norm", "tokens-per-second", "memory", "perplexity"];
const kSwitches = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const browser = await chromium.launch({ executablePath, args: kSwitches });
const file = (name) => `${folder}/${name}`;

// Opens the file and does `look` with the page; then nothing may have gone wrong or been asked for.
async function open(path, look, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  const requests = [];
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`file://${path}`);
  await look(page);
  assert.deepEqual(complaints, []);
  assert.deepEqual(requests, [`file://${path}`]);
  if (screenshots) {
    mkdirSync(screenshots, { recursive: true });
    await page.screenshot({ path: `${screenshots}/${path.split("/").slice(-2).join("-")}-${options.viewport?.width ?? 1280}-${options.colorScheme ?? "light"}.png`, fullPage: true });
  }
  await context.close();
}

// Pixels of a chart's canvas that are neither background nor gray: its lines.
const inked = (page, id) => page.$eval(`#chart-${id} canvas`, (canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    const spread = Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]);
    if (data[i + 3] > 128 && spread > 60) ++count;
  }
  return count;
});
const legend = (page, id) => page.$$eval(`#chart-${id} .u-series:not(.raw)`, (rows) => rows.map((row) => [row.querySelector(".u-label").textContent, row.querySelector(".u-value").textContent]));
async function hover(page, id, across) {
  const over = page.locator(`#chart-${id} .u-over`);
  await over.scrollIntoViewIfNeeded();
  const box = await over.boundingBox();
  await page.mouse.move(box.x + box.width * across, box.y + box.height / 2);
}

async function checkCharts(page, least) {
  for (const id of kCharts) {
    await page.locator(`#chart-${id} canvas`).waitFor();
    assert.ok((await inked(page, id)) > least, `${id}: no line drawn`);
  }
  assert.equal(await page.locator("article.chart").count(), kCharts.length);
}

async function checkOneRun(page) {
  await checkCharts(page, 60);
  const header = await page.locator("#header").innerText();
  for (const part of ["alone", "614K", "300 of 300", "parameters"]) assert.ok(header.includes(part), `header lacks ${part}`);
  // Text is text, whatever is in it.
  assert.equal(await page.title(), "alone – sluice report");
  assert.equal(await page.locator("#samples pre").first().textContent(), `alone at 300 ${kHostile}`);

  // Values under the cursor, in every chart that shares the axis.
  await hover(page, "loss", 0.5);
  const loss = await legend(page, "loss");
  assert.deepEqual(loss.map(([label]) => label), ["step", "training", "validation"]);
  assert.match(loss[1][1], /^\d\.\d{4}$/);
  const step = Number(loss[0][1]);
  assert.ok(Math.abs(step - 150) < 5, `cursor at step ${step}`);
  assert.equal((await legend(page, "learning-rate"))[0][1], String(step));
  assert.match((await legend(page, "memory"))[1][1], /^286 MiB$/);
  await hover(page, "perplexity", 0.5);
  assert.deepEqual((await legend(page, "perplexity")).map(([label]) => label), ["position", "length 128", "length 2,048"]);

  // Zoom by dragging: all charts along steps show the same stretch; the button shows everything again.
  await hover(page, "loss", 0.25);
  await page.mouse.down();
  const box = await page.locator("#chart-loss .u-over").boundingBox();
  await page.mouse.move(box.x + box.width * 0.5, box.y + box.height / 2, { steps: 4 });
  await page.mouse.up();
  for (const [across, expected] of [[0.01, 75], [0.99, 150]]) {
    await hover(page, "learning-rate", across);
    const [[, shown]] = await legend(page, "learning-rate");
    assert.ok(Math.abs(Number(shown) - expected) <= 3, `zoomed: step ${shown} at ${across}, expected ${expected}`);
  }
  await page.getByRole("button", { name: "Show everything" }).click();
  await hover(page, "learning-rate", 0.99);
  assert.ok(Number((await legend(page, "learning-rate"))[0][1]) > 290);

  // Both kinds of axes, smoothing, and tokens along x.
  for (const id of ["loss", "gradient-norm", "perplexity"]) {
    const button = page.locator(`#chart-${id} button`);
    const before = await button.getAttribute("aria-pressed");
    await button.click();
    assert.notEqual(await button.getAttribute("aria-pressed"), before);
    assert.ok((await inked(page, id)) > 60, `${id}: no line drawn on its other axis`);
  }
  await page.locator("#smoothing").fill("0.9");
  assert.equal(await page.locator("#chart-loss .u-series.raw").count(), 1);
  await page.locator("#axis").selectOption("tokens");
  await hover(page, "loss", 0.5);
  assert.match((await legend(page, "loss"))[0].join(" "), /^tokens 30\dK$/);
}

async function checkSeveralRuns(page) {
  await checkCharts(page, 60);
  assert.equal(await page.locator("#header tbody tr").count(), 3);
  await hover(page, "loss", 0.25);
  const shown = await legend(page, "loss");
  assert.deepEqual(shown.map(([label]) => label), ["step", file("first"), "second", file("third")]);
  for (const [label, value] of shown.slice(1)) assert.match(value, /^\d\.\d{4}$/, `${label} has no value`);
  assert.equal(new Set(shown.slice(1).map(([, value]) => value)).size, 3);
  // The second ends half way.
  await hover(page, "loss", 0.8);
  assert.equal((await legend(page, "loss"))[2][1], "–");
  const colors = await page.$$eval("#chart-loss .u-marker", (all) => all.map((one) => getComputedStyle(one).backgroundColor));
  assert.equal(new Set(colors.slice(-3)).size, 3);
}

try {
  writeRun(file("alone"), "alone", 300);
  execFileSync(report, [file("alone")]);
  await open(file("alone/report.html"), checkOneRun);
  await open(file("alone/report.html"), (page) => checkCharts(page, 60), { colorScheme: "dark" });
  // On a phone nothing is wider than the screen.
  await open(file("alone/report.html"), async (page) => {
    await checkCharts(page, 60);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 390);
  }, { viewport: { width: 390, height: 800 }, isMobile: true, hasTouch: true });

  // Two of three are named alike and told apart by their directories.
  writeRun(file("first"), "first", 300);
  writeRun(file("second"), "second", 150, { floor: 3 });
  writeRun(file("third"), "first", 300, { floor: 2.5, evaluated: false });
  const runs = ["first", "second", "third"].map(file);
  execFileSync(report, [...runs, "--output", file("together.html")]);
  await open(file("together.html"), checkSeveralRuns);

  // A run that has only begun says what is missing.
  writeRun(file("begun"), "begun", 3, { evaluated: false });
  execFileSync(report, [file("begun")]);
  await open(file("begun/report.html"), async (page) => {
    assert.match(await page.locator("#chart-perplexity .none").innerText(), /evaluate --checkpoint .*begun/);
  });

  writeRun(file("long"), "long", 10000);
  const start = performance.now();
  execFileSync(report, [file("long")]);
  assert.ok(performance.now() - start < 1000, "10,000 steps took a second or more to write");
  assert.ok(statSync(file("long/report.html")).size < 2e6);
  await open(file("long/report.html"), async (page) => {
    await checkCharts(page, 60);
    const opened = await page.evaluate(() => performance.getEntriesByType("navigation")[0].domComplete);
    assert.ok(opened < 5000, `open after ${opened} ms`);
  });
} finally {
  await browser.close();
}
console.log("reports open, show every chart and ask for nothing");
