#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "config/object_reader.h"
#include "core/file.h"
#include "tools/mqar/commands.h"

namespace sluice::mqar {
namespace {

constexpr double kWidth = 640, kHeight = 420;
constexpr double kLeft = 64, kRight = 150, kTop = 56, kBottom = 56;
// Distinguishable with colour-blind eyes too (Paul Tol's bright scheme).
constexpr const char* kColours[] = {"#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44"};

struct Arguments {
  std::string results, svg;
  std::vector<std::string> references;
};

// Accuracy by width; of several runs of one width the best, as with a sweep over learning rates.
using Curve = std::map<int64_t, double>;

struct Figure {
  std::map<std::string, Curve> curves;      // by mixer
  std::map<std::string, Curve> references;  // from elsewhere
  int64_t length = 0, pairs = 0, vocabulary = 0;
};

void read_line(const std::string& text, const std::string& origin, Figure& figure) {
  const Json json = parse_json(text, origin, ErrorKind::kData);
  Problems problems;
  ObjectReader reader(json, "", problems);
  const std::string type = reader.required_text("mixer");
  const int64_t width = reader.required_integer("width", 1);
  const double accuracy = reader.required_number("accuracy", 0, 1);
  const int64_t length = reader.required_integer("length", 1), pairs = reader.required_integer("pairs", 1);
  const int64_t vocabulary = reader.required_integer("vocabulary", 1);
  problems.throw_if_any(origin, ErrorKind::kData);
  SLUICE_CHECK(figure.length == 0 ||
                   (figure.length == length && figure.pairs == pairs && figure.vocabulary == vocabulary),
               kData, "{}: {} tokens, {} pairs and {} ids; the lines before have {}, {} and {}", origin,
               length, pairs, vocabulary, figure.length, figure.pairs, figure.vocabulary);
  figure.length = length, figure.pairs = pairs, figure.vocabulary = vocabulary;
  double& best = figure.curves[type][width];
  best = std::max(best, accuracy);
}

// "NAME=64:0.22,128:0.95"
void read_reference(const std::string& text, Figure& figure) {
  const auto refuse = [&] {
    SLUICE_FAIL(kUsage, "--reference \"{}\": NAME=WIDTH:ACCURACY,... is needed, e.g. paper=64:0.22,128:0.95",
                text);
  };
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) refuse();
  Curve curve;
  const char *at = text.data() + equals + 1, *const end = text.data() + text.size();
  while (at != end) {
    int64_t width = 0;
    double accuracy = 0;
    const auto first = std::from_chars(at, end, width);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':') refuse();
    const auto second = std::from_chars(first.ptr + 1, end, accuracy);
    if (second.ec != std::errc() || width < 1 || !(accuracy >= 0 && accuracy <= 1)) refuse();
    curve[width] = accuracy;
    at = second.ptr;
    if (at != end && *at++ != ',') refuse();
  }
  if (curve.empty()) refuse();
  figure.references[text.substr(0, equals)] = curve;
}

Figure read_figure(const Arguments& arguments) {
  Figure figure;
  const std::string text = read_text_file(arguments.results, ErrorKind::kData);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    if (end > begin)
      read_line(text.substr(begin, end - begin), fmt::format("{}: line {}", arguments.results, number),
                figure);
    begin = end + 1;
  }
  SLUICE_CHECK(!figure.curves.empty(), kData, "{}: holds no results", arguments.results);
  for (const std::string& reference : arguments.references) read_reference(reference, figure);
  return figure;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '&') {
      result += "&amp;";
    } else if (c == '<') {
      result += "&lt;";
    } else {
      result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return result;
}

class Picture {
 public:
  explicit Picture(const Figure& figure) {
    int64_t low = std::numeric_limits<int64_t>::max(), high = 1;
    for (const auto* curves : {&figure.curves, &figure.references}) {
      for (const auto& [name, curve] : *curves) {
        low = std::min(low, curve.begin()->first);
        high = std::max(high, curve.rbegin()->first);
      }
    }
    low_ = std::log2(static_cast<double>(low)) - 0.25;
    high_ = std::log2(static_cast<double>(high)) + 0.25;
    text_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
        kWidth, kHeight);
    label(kLeft, 24, "start",
          fmt::format("Associative recall: {} pairs in {} tokens", figure.pairs, figure.length), 16);
    label(kLeft, 42, "start", fmt::format("accuracy of all queries, vocabulary {}", figure.vocabulary), 12);
    axes(figure);
    int index = 0;
    double legend = kTop + 10;
    for (const auto& [name, curve] : figure.curves) draw(name, curve, index++, "", legend);
    for (const auto& [name, curve] : figure.references)
      draw(name, curve, index++, " stroke-dasharray=\"5 4\"", legend);
    text_ += "</svg>\n";
  }

  const std::string& text() const { return text_; }

 private:
  double x(int64_t width) const {
    return kLeft +
           (std::log2(static_cast<double>(width)) - low_) / (high_ - low_) * (kWidth - kLeft - kRight);
  }
  static double y(double accuracy) { return kHeight - kBottom - accuracy * (kHeight - kTop - kBottom); }

  void label(double at_x, double at_y, const char* anchor, const std::string& text, int size = 13) {
    text_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\">{}</text>\n",
                         at_x, at_y, anchor, size, escaped(text));
  }

  void line(double x1, double y1, double x2, double y2) {
    text_ +=
        fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#dddddd\"/>\n",
                    x1, y1, x2, y2);
  }

  void axes(const Figure& figure) {
    for (int share = 0; share <= 100; share += 20) {
      line(kLeft, y(share / 100.0), kWidth - kRight, y(share / 100.0));
      label(kLeft - 8, y(share / 100.0) + 4, "end", fmt::format("{} %", share));
    }
    Curve widths;
    for (const auto* curves : {&figure.curves, &figure.references}) {
      for (const auto& [name, curve] : *curves) widths.insert(curve.begin(), curve.end());
    }
    for (const auto& [width, unused] : widths) {
      line(x(width), y(0), x(width), y(0) + 5);
      label(x(width), y(0) + 20, "middle", std::to_string(width));
    }
    label((kLeft + kWidth - kRight) / 2, kHeight - 14, "middle", "model width");
  }

  void draw(const std::string& name, const Curve& curve, int index, const char* dashes, double& legend) {
    const char* const colour = kColours[static_cast<size_t>(index) % std::size(kColours)];
    std::string points;
    for (const auto& [width, accuracy] : curve)
      points += fmt::format("{:.1f},{:.1f} ", x(width), y(accuracy));
    text_ += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n",
                         points, colour, dashes);
    for (const auto& [width, accuracy] : curve) {
      text_ += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"><title>{}, width {}: {:.1f} "
          "%</title></circle>\n",
          x(width), y(accuracy), colour, escaped(name), width, 100 * accuracy);
    }
    const double left = kWidth - kRight + 16;
    text_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" "
        "stroke-width=\"2\"{}/>\n",
        left, legend - 4, left + 22, legend - 4, colour, dashes);
    label(left + 28, legend, "start", name);
    legend += 20;
  }

  std::string text_;
  double low_ = 0, high_ = 1;
};

int plot(const Arguments& arguments) {
  const Figure figure = read_figure(arguments);
  write_file_atomically(arguments.svg, Picture(figure).text(), ErrorKind::kData);
  for (const auto& [name, curve] : figure.curves) {
    for (const auto& [width, accuracy] : curve)
      fmt::print("{:<14} width {:>5}  {:6.2f} %\n", name, width, 100 * accuracy);
  }
  return 0;
}

}  // namespace

void add_plot(CLI::App& app, std::function<int()>& action) {
  CLI::App* command = app.add_subcommand(
      "plot", "draw accuracy against width from lines of score; the best of each width counts");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("--results", arguments->results, "file of lines that score printed")->required();
  command->add_option("--svg", arguments->svg, "picture to write")->required();
  command->add_option("--reference", arguments->references,
                      "a dashed curve of numbers from elsewhere, NAME=WIDTH:ACCURACY,...; repeatable");
  command->callback([arguments, &action] { action = [arguments] { return plot(*arguments); }; });
}

}  // namespace sluice::mqar
