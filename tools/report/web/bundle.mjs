// node bundle.mjs PAGE.cpp: the page with its style and scripts in one, as a C++ string. Run where npm has installed
// the packages.
import { readFileSync, writeFileSync } from "node:fs";
import { buildSync, transformSync } from "esbuild";

const output = process.argv[2];
const script = buildSync({
  entryPoints: ["main.js"], bundle: true, minify: true, write: false, format: "iife", target: "es2022", charset: "ascii", legalComments: "none",
}).outputFiles[0].text;
const styles = readFileSync("node_modules/uplot/dist/uPlot.min.css", "utf8") + readFileSync("page.css", "utf8");
const style = transformSync(styles, { loader: "css", minify: true, charset: "ascii" }).code;
const license = readFileSync("node_modules/uplot/LICENSE", "utf8").trim();

// A function as the replacement: "$" in the code means nothing.
const fill = (text, mark, content) => {
  if (text.split(mark).length !== 2) throw new Error(`page.html must have ${mark} once`);
  if (/<\/(script|style)|<!--/i.test(content)) throw new Error(`${mark}: this content would end its element`);
  return text.replace(mark, () => content.trim());
};
let page = fill(readFileSync("page.html", "utf8"), "@@STYLE@@", style);
page = fill(page, "@@SCRIPT@@", script);
page = page.replace("<html", () => `<!-- Charts by uPlot:\n${license}\n-->\n<html`);
if (page.split("@@SLUICE_DATA@@").length !== 2) throw new Error("page.html must have @@SLUICE_DATA@@ once");

const escapes = { "\\": "\\\\", '"': '\\"', "\n": "\\n", "?": "\\?" };
const bytes = Buffer.from(page, "utf8");
const lines = [];
for (let begin = 0; begin < bytes.length; begin += 2000) {
  const part = [...bytes.subarray(begin, begin + 2000)].map((byte) => {
    const character = String.fromCharCode(byte);
    if (escapes[character]) return escapes[character];
    return byte >= 32 && byte < 127 ? character : `\\${byte.toString(8).padStart(3, "0")}`;
  });
  lines.push(`    "${part.join("")}"`);
}
writeFileSync(output, `// Made by tools/report/web/bundle.mjs.
#include "train/report_page.h"

namespace sluice {

const std::string_view kReportPage =
${lines.join("\n")};
const std::string_view kReportMissingReason;

}  // namespace sluice
`);
