// Perplexity against position as an SVG picture of its own: no fonts, scripts or styles from elsewhere.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sluice {

struct PlotPoint {
  double position = 0;  // > 0
  double perplexity = 0;
};

struct PlotLine {
  std::string label;
  std::vector<PlotPoint> points;  // by ascending position
};

struct PerplexityPlot {
  std::string title;
  std::string subtitle;
  std::vector<PlotLine> lines;
  std::optional<double> baseline;  // drawn as a dashed horizontal line
  std::string baseline_label;
};

// Positions on a log2 axis; perplexity on a linear axis, or on a logarithmic one when its values span more
// than a factor of 8. Points whose perplexity is not finite are left out.
std::string to_svg(const PerplexityPlot& plot);

}  // namespace sluice
