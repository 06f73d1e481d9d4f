#include "train/perplexity_plot.h"

#include <cmath>

#include "support/catch.h"

using namespace sluice;

namespace {

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

// Every element is closed, by itself or by its own end, and every attribute quoted; nothing follows the root.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  size_t at = 0;
  while (at < xml.size()) {
    if (xml[at] != '<') {
      if (xml[at] == '>' || (open.empty() && xml[at] != '\n')) return false;
      ++at;
      continue;
    }
    const size_t end = xml.find('>', at);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos || occurrences(tag, "\"") % 2 != 0) return false;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end + 1;
  }
  return open.empty();
}

}  // namespace

TEST_CASE("a plot has one polyline a length, and a dashed baseline") {
  PerplexityPlot plot;
  plot.title = "a < b & \"c\"";
  plot.lines = {{"length 256", {{64, 30}, {192, 25}}}, {"length 512", {{64, 31}, {192, 26}, {384, 24}}}};
  const std::string without = to_svg(plot);
  CHECK(well_formed(without));
  CHECK(occurrences(without, "<polyline") == 2);
  CHECK(occurrences(without, "<circle") == 5);
  CHECK(occurrences(without, "stroke-dasharray") == 0);
  CHECK_THAT(without, test::contains("a &lt; b &amp; &quot;c&quot;") && test::contains(">length 512<"));
  plot.baseline = 40;
  plot.baseline_label = "bigram baseline";
  const std::string with = to_svg(plot);
  CHECK(occurrences(with, "stroke-dasharray") == 2);  // the line and its legend
  CHECK_THAT(with, test::contains("bigram baseline"));
}

TEST_CASE("positions double along the axis, and higher perplexity is drawn higher") {
  PerplexityPlot plot;
  plot.lines = {{"", {{64, 30}, {128, 20}, {256, 25}}}};
  const std::string svg = to_svg(plot);
  const size_t at = svg.find("points=\"") + 8;
  double x[3], y[3];
  REQUIRE(std::sscanf(svg.c_str() + at, "%lf,%lf %lf,%lf %lf,%lf", &x[0], &y[0], &x[1], &y[1], &x[2],
                      &y[2]) == 6);
  CHECK(x[1] - x[0] == Approx(x[2] - x[1]).margin(0.2));
  CHECK(y[0] < y[2]);
  CHECK(y[2] < y[1]);
}

TEST_CASE("plots of single, equal, huge or missing values") {
  for (const std::vector<PlotPoint>& points : {std::vector<PlotPoint>{},
                                               {{64, 10}},
                                               {{0.5, 7}, {1e6, 7}},
                                               {{64, 2}, {128, 1e9}, {256, INFINITY}},
                                               {{1, 1.0}, {2, 8.5}}}) {
    PerplexityPlot plot;
    plot.lines = {{"x", points}};
    const std::string svg = to_svg(plot);
    CAPTURE(points.size());
    CHECK(well_formed(svg));
    CHECK_THAT(svg, !test::contains("nan") && !test::contains("inf\"") && !test::contains("inf,"));
    CHECK(occurrences(svg, "text-anchor=\"end\"") >= 2);
    CHECK(occurrences(svg, "text-anchor=\"end\"") <= 40);
  }
  PerplexityPlot wide;
  wide.lines = {{"x", {{64, 2}, {128, 1e5}}}};
  CHECK_THAT(to_svg(wide), test::contains("log scale"));
  CHECK(to_svg({}).find("log scale") == std::string::npos);
}
