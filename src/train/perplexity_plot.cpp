#include "train/perplexity_plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>

namespace sluice {
namespace {

constexpr double kWidth = 900, kHeight = 500;
constexpr double kLeft = 84, kRight = 170, kTop = 72, kBottom = 62;
constexpr double kLogarithmicSpan = 8;
// Distinguishable with colour-blind eyes too (Paul Tol's bright scheme).
constexpr const char* kColours[] = {"#4477aa", "#ee6677", "#228833", "#aa3377",
                                    "#66ccee", "#ccbb44", "#bb5566", "#004488"};

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return result;
}

// 512, 2K, 1M: positions are powers of two.
std::string position_label(double position) {
  if (position >= 1 << 20) return fmt::format("{:g}M", position / (1 << 20));
  if (position >= 1 << 10) return fmt::format("{:g}K", position / (1 << 10));
  return fmt::format("{:g}", position);
}

struct Range {
  double low = INFINITY, high = -INFINITY;
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

// The values of the vertical axis that get a line and a number.
class VerticalAxis {
 public:
  explicit VerticalAxis(Range values) {
    if (!(values.low <= values.high)) values = {1, 2};
    logarithmic_ = values.high > kLogarithmicSpan * values.low;
    if (logarithmic_) {
      use_ticks_of_decades(values);
    } else {
      use_even_ticks(values);
    }
  }

  const std::vector<double>& ticks() const { return ticks_; }
  bool logarithmic() const { return logarithmic_; }
  double y(double value) const {
    const double share =
        (scale(value) - scale(ticks_.front())) / (scale(ticks_.back()) - scale(ticks_.front()));
    return kHeight - kBottom - share * (kHeight - kTop - kBottom);
  }

 private:
  double scale(double value) const { return logarithmic_ ? std::log(value) : value; }

  void use_even_ticks(Range values) {
    const double span = std::max(values.high - values.low, 0.02 * values.high);
    const double unit = std::pow(10.0, std::floor(std::log10(span / 5)));
    double step = unit;
    for (const double factor : {2.0, 5.0, 10.0}) {
      if (span / step > 6) step = factor * unit;
    }
    const auto first = static_cast<int64_t>(std::floor(values.low / step));
    const auto last = std::max(first + 1, static_cast<int64_t>(std::ceil(values.high / step)));
    for (int64_t i = first; i <= last; ++i) ticks_.push_back(static_cast<double>(i) * step);
  }

  void use_ticks_of_decades(Range values) {
    const bool many = values.high > 1e4 * values.low;
    for (double decade = std::pow(10.0, std::floor(std::log10(values.low)));; decade *= 10) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        if (many && factor != 1.0) continue;
        const double tick = factor * decade;
        if (tick <= values.low) ticks_.clear();  // the last one not above all values is the lower end
        ticks_.push_back(tick);
        if (tick >= values.high) return;
      }
    }
  }

  bool logarithmic_ = false;
  std::vector<double> ticks_;
};

class Picture {
 public:
  explicit Picture(const PerplexityPlot& plot) : plot_(plot), vertical_(values_of(plot)) {
    Range positions;
    for (const PlotLine& line : plot.lines) {
      for (const PlotPoint& point : line.points) positions.include(point.position);
    }
    if (!(positions.low <= positions.high)) positions = {1, 2};
    first_power_ = static_cast<int>(std::floor(std::log2(positions.low)));
    last_power_ = std::max(first_power_ + 1, static_cast<int>(std::ceil(std::log2(positions.high))));
  }

  std::string draw() {
    add(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" )"
        R"(font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#333333">)",
        kWidth, kHeight);
    add(R"(<rect width="{}" height="{}" fill="#ffffff"/>)", kWidth, kHeight);
    add(R"(<text x="{}" y="30" font-size="18" font-weight="bold">{}</text>)", kLeft, escaped(plot_.title));
    add(R"(<text x="{}" y="51" fill="#666666">{}</text>)", kLeft, escaped(plot_.subtitle));
    draw_axes();
    if (plot_.baseline && std::isfinite(*plot_.baseline)) draw_baseline();
    for (size_t i = 0; i < plot_.lines.size(); ++i)
      draw_line(plot_.lines[i], kColours[i % std::size(kColours)]);
    svg_ += "</svg>\n";
    return std::move(svg_);
  }

 private:
  static Range values_of(const PerplexityPlot& plot) {
    Range values;
    for (const PlotLine& line : plot.lines) {
      for (const PlotPoint& point : line.points) {
        if (std::isfinite(point.perplexity)) values.include(point.perplexity);
      }
    }
    if (plot.baseline && std::isfinite(*plot.baseline)) values.include(*plot.baseline);
    return values;
  }

  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    svg_ += fmt::format(format, std::forward<Args>(args)...) + "\n";
  }

  double x(double position) const {
    const double share = (std::log2(position) - first_power_) / (last_power_ - first_power_);
    return kLeft + share * (kWidth - kLeft - kRight);
  }

  void draw_axes() {
    const double bottom = kHeight - kBottom, right = kWidth - kRight;
    for (const double tick : vertical_.ticks()) {
      const double y = vertical_.y(tick);
      add(R"(<line x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}" stroke="#e4e4e4"/>)", kLeft, y, right, y);
      add(R"(<text x="{}" y="{:.1f}" text-anchor="end">{:.6g}</text>)", kLeft - 9, y + 4.5, tick);
    }
    const int stride = (last_power_ - first_power_) / 12 + 1;
    for (int power = first_power_; power <= last_power_; power += stride) {
      const double at = x(std::exp2(power));
      add(R"(<line x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2}" stroke="#333333"/>)", at, bottom, bottom + 5);
      add(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", at, bottom + 20,
          position_label(std::exp2(power)));
    }
    add(R"(<line x1="{0}" y1="{1}" x2="{2}" y2="{1}" stroke="#333333"/>)", kLeft, bottom, right);
    add(R"(<text x="{}" y="{}" text-anchor="middle">position in the window (middle of its bucket)</text>)",
        (kLeft + right) / 2, kHeight - 16);
    add(R"svg(<text transform="translate(20 {}) rotate(-90)" text-anchor="middle">perplexity{}</text>)svg",
        (kTop + bottom) / 2, vertical_.logarithmic() ? " (log scale)" : "");
  }

  void draw_legend(const std::string& label, const char* colour, bool dashed) {
    const double left = kWidth - kRight + 18, y = kTop + 8 + 21 * entries_++;
    add(R"(<line x1="{0}" y1="{1}" x2="{2}" y2="{1}" stroke="{3}" stroke-width="2.5"{4}/>)", left, y,
        left + 22, colour, dashed ? R"( stroke-dasharray="6 4")" : "");
    add(R"(<text x="{}" y="{}">{}</text>)", left + 29, y + 4.5, escaped(label));
  }

  void draw_baseline() {
    const double y = vertical_.y(*plot_.baseline);
    add(R"(<line x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}" stroke="#777777" stroke-width="1.5" )"
        R"(stroke-dasharray="6 4"/>)",
        kLeft, y, kWidth - kRight, y);
    draw_legend(plot_.baseline_label, "#777777", true);
  }

  void draw_line(const PlotLine& line, const char* colour) {
    std::string path, marks;
    for (const PlotPoint& point : line.points) {
      if (!std::isfinite(point.perplexity)) continue;
      const double at = x(point.position), y = vertical_.y(point.perplexity);
      path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", at, y);
      marks += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3" fill="{}"/>)", at, y, colour) + "\n";
    }
    add(R"(<polyline fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" points="{}"/>)", colour,
        path);
    svg_ += marks;
    draw_legend(line.label, colour, false);
  }

  const PerplexityPlot& plot_;
  VerticalAxis vertical_;
  int first_power_ = 0;
  int last_power_ = 1;
  int entries_ = 0;
  std::string svg_;
};

}  // namespace

std::string to_svg(const PerplexityPlot& plot) { return Picture(plot).draw(); }

}  // namespace sluice
