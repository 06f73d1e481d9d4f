#include "train/run_series.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/file.h"
#include "model/language_model.h"
#include "train/jsonl_log.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Logs hold NaN and infinities as strings.
double number(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : kNaN;
}

// Six digits are more than a screen shows, and a third of a double's text.
double rounded(double value) { return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr); }

Json series_json(const std::vector<SeriesPoint>& points, int64_t limit) {
  Json x = Json::array(), y = Json::array();
  for (const SeriesPoint& point : thin(points, limit)) {
    x.push_back(static_cast<int64_t>(point.x));
    y.push_back(std::isfinite(point.y) ? Json(rounded(point.y)) : Json(nullptr));
  }
  return Json{{"x", std::move(x)}, {"y", std::move(y)}};
}

struct Series {
  const char* name;
  const char* key;  // in a line of the log
  std::vector<SeriesPoint> points = {};
};

using Samples = std::map<int64_t, Json>;  // by step, each an array

struct Log {
  std::vector<Series> training{{"loss", "loss"}, {"grad_norm", "grad_norm"}, {"lr", "lr"}};
  std::vector<Series> validation{{"validation_loss", "validation_loss"}};
  Samples samples;
  std::optional<Json> last;  // line of a training step
};

void append(std::vector<Series>& all, const Json& line) {
  const double step = number(line, "step");
  for (Series& series : all) series.points.push_back({step, number(line, series.key)});
}

std::string text_of(const Json& line, const char* key, const ReportLimits& limits) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string()
             ? shorten(found->get_ref<const std::string&>(), limits.sample_bytes)
             : "";
}

void add_sample(Samples& samples, const Json& line, const ReportLimits& limits) {
  Json& of_step = samples[static_cast<int64_t>(number(line, "step"))];
  if (static_cast<int64_t>(of_step.size()) >= limits.samples) return;
  of_step.push_back(
      Json{{"prompt", text_of(line, "prompt", limits)}, {"text", text_of(line, "sample", limits)}});
}

Log read_log(const fs::path& path, const ReportLimits& limits) {
  Log log;
  for_each_jsonl(path, [&](Json line) {
    if (line.contains("validation_loss")) {
      append(log.validation, line);
    } else if (line.contains("sample")) {
      add_sample(log.samples, line, limits);
    } else if (line.contains("loss")) {
      append(log.training, line);
      log.last = std::move(line);
    }
  });
  return log;
}

Json samples_json(const Samples& samples, const ReportLimits& limits) {
  std::vector<int64_t> steps;
  for (const auto& [step, unused] : samples) steps.push_back(step);
  Json json = Json::array();
  for (const int64_t i : spread(static_cast<int64_t>(steps.size()), limits.sampled_steps)) {
    const int64_t step = steps[static_cast<size_t>(i)];
    json.push_back(Json{{"step", step}, {"samples", samples.at(step)}});
  }
  return json;
}

// A run of an older or newer program may name what this one does not know; its curves are shown all the same.
std::optional<int64_t> parameter_count(const Json& model) {
  try {
    Problems problems;
    const ModelConfig config = read_model_config(model, "model", UnknownKeys::kIgnore, problems);
    problems.throw_if_any("model", ErrorKind::kUsage);
    return LanguageModel(config).parameter_count();
  } catch (const Error&) {
    return std::nullopt;
  }
}

void add_configuration(Json& run, const fs::path& path) {
  if (!fs::exists(path)) return;
  Json config = read_json_file(path, ErrorKind::kData);
  if (!config.is_object()) return;
  if (const auto name = config.find("name"); name != config.end() && name->is_string()) run["name"] = *name;
  if (const auto model = config.find("model"); model != config.end()) {
    if (const auto parameters = parameter_count(*model)) run["parameters"] = *parameters;
  }
  run["config"] = std::move(config);
}

void add_perplexity(Json& run, const fs::path& path) {
  if (!fs::exists(path)) return;
  const Json evaluation = read_json_file(path, ErrorKind::kData);
  try {
    Json lengths = Json::array();
    for (const Json& result : evaluation.at("results")) {
      Json x = Json::array(), y = Json::array();
      for (const Json& bucket : result.at("buckets")) {
        x.push_back(0.5 * (bucket.at("begin").get<double>() + bucket.at("end").get<double>()));
        const double perplexity = number(bucket, "perplexity");
        y.push_back(std::isfinite(perplexity) ? Json(rounded(perplexity)) : Json(nullptr));
      }
      lengths.push_back(Json{{"length", result.at("length")}, {"x", std::move(x)}, {"y", std::move(y)}});
    }
    run["perplexity"] = std::move(lengths);
  } catch (const Json::exception& error) {
    SLUICE_FAIL(kData, "{}: not what `evaluate --json` writes ({}); evaluate again, or move it away",
                path.string(), error.what());
  }
}

std::string directory_name(const fs::path& directory) {
  const fs::path path = fs::absolute(directory).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

std::vector<SeriesPoint> thin(const std::vector<SeriesPoint>& points, int64_t limit) {
  const auto size = static_cast<int64_t>(points.size());
  if (size <= limit) return points;
  const auto begin = points.begin();
  std::vector<SeriesPoint> kept{points.front()};
  const int64_t stretches = (limit - 2) / 2;
  for (int64_t i = 0; i < stretches; ++i) {
    const auto first = begin + 1 + (size - 2) * i / stretches;
    const auto last = begin + 1 + (size - 2) * (i + 1) / stretches;
    // A value that is not finite loses against all others, from either side.
    const auto least = std::min_element(first, last, [](const auto& a, const auto& b) {
      return !std::isnan(a.y) && (std::isnan(b.y) || a.y < b.y);
    });
    const auto greatest = std::max_element(first, last, [](const auto& a, const auto& b) {
      return !std::isnan(b.y) && (std::isnan(a.y) || a.y < b.y);
    });
    kept.push_back(*std::min(least, greatest));
    if (least != greatest) kept.push_back(*std::max(least, greatest));
  }
  kept.push_back(points.back());
  return kept;
}

std::vector<int64_t> spread(int64_t size, int64_t count) {
  std::vector<int64_t> indices;
  const int64_t kept = std::min(size, count);
  for (int64_t i = 0; i < kept; ++i) indices.push_back(kept == 1 ? size - 1 : i * (size - 1) / (kept - 1));
  return indices;
}

std::string shorten(std::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "\u2026";
}

Json read_run(const fs::path& directory, const ReportLimits& limits) {
  const fs::path log_path = directory / "log.jsonl";
  SLUICE_CHECK(fs::exists(log_path), kData, "{}: no log.jsonl; a run's train.output_dir is needed",
               directory.string());
  Log log = read_log(log_path, limits);
  Json run{{"name", directory_name(directory)}, {"directory", directory.string()}};
  add_configuration(run, directory / "run.json");
  if (log.last) run["last"] = std::move(*log.last);

  std::vector<Series> timing{{"tokens_per_second", "tokens_per_second"},
                             {"flops_per_second", "flops_per_second"},
                             {"peak_bytes", "peak_bytes"}};
  if (fs::exists(directory / "timing.jsonl")) {
    for_each_jsonl(directory / "timing.jsonl", [&](const Json& line) {
      if (line.contains("tokens_per_second")) append(timing, line);
    });
  }
  Json series = Json::object();
  for (const auto* group : {&log.training, &log.validation, &timing}) {
    for (const Series& one : *group) {
      if (!one.points.empty()) series[one.name] = series_json(one.points, limits.points);
    }
  }
  run["series"] = std::move(series);
  run["samples"] = samples_json(log.samples, limits);
  add_perplexity(run, directory / "evaluation.json");
  return run;
}

}  // namespace sluice
