#include "train/evaluation_comparison.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "config/json.h"
#include "core/progress.h"
#include "train/perplexity_plot.h"

namespace sluice {
namespace {

struct Evaluation {
  std::string file, checkpoint, model, data, convention;
  int64_t data_tokens = 0;
  std::map<int64_t, std::vector<PlotPoint>> by_length;
};

std::vector<PlotPoint> points_of(const Json& buckets) {
  std::vector<PlotPoint> points;
  for (const Json& bucket : buckets) {
    const Json& perplexity = bucket.at("perplexity");
    const double begin = bucket.at("begin"), end = bucket.at("end");
    // "inf" and "nan" are strings.
    if (perplexity.is_number()) points.push_back({0.5 * (begin + end), perplexity});
  }
  return points;
}

Evaluation read_evaluation(const std::filesystem::path& path) {
  const Json json = read_json_file(path, ErrorKind::kData);
  try {
    Evaluation evaluation;
    evaluation.file = path.string();
    evaluation.checkpoint = json.at("checkpoint");
    evaluation.model = fmt::format("{} {}", json.at("model_type").get<std::string>(),
                                   format_count(json.at("parameters").get<double>()));
    evaluation.data = json.at("data");
    evaluation.data_tokens = json.at("data_tokens");
    evaluation.convention = json.at("convention");
    for (const Json& result : json.at("results"))
      evaluation.by_length[result.at("length")] = points_of(result.at("buckets"));
    return evaluation;
  } catch (const nlohmann::json::exception& error) {
    SLUICE_FAIL(kData, "{}: not an evaluation as evaluate --json writes it ({})", path.string(),
                error.what());
  }
}

void check_comparable(const Evaluation& one, const Evaluation& other) {
  const auto check = [&](const char* what, const std::string& first, const std::string& second) {
    SLUICE_CHECK(first == second, kData, "{} and {} cannot be compared: {} \"{}\" and \"{}\"", one.file,
                 other.file, what, first, second);
  };
  check("data", one.data, other.data);
  check("data_tokens", fmt::format("{}", one.data_tokens), fmt::format("{}", other.data_tokens));
  check("convention", one.convention, other.convention);
}

int64_t longest_common_length(const std::vector<Evaluation>& evaluations) {
  int64_t longest = 0;
  for (const auto& candidate : evaluations.front().by_length) {
    const int64_t length = candidate.first;
    if (std::all_of(evaluations.begin(), evaluations.end(),
                    [&](const Evaluation& other) { return other.by_length.contains(length); }))
      longest = length;
  }
  SLUICE_CHECK(longest > 0, kData, "{} and {} have no length in common", evaluations.front().file,
               evaluations.back().file);
  return longest;
}

}  // namespace

std::string compare_evaluations(const std::vector<std::filesystem::path>& files) {
  SLUICE_CHECK(!files.empty(), kUsage, "no evaluations to compare");
  std::vector<Evaluation> evaluations;
  std::transform(files.begin(), files.end(), std::back_inserter(evaluations), read_evaluation);
  std::set<std::string> models;
  for (const Evaluation& evaluation : evaluations) {
    check_comparable(evaluations.front(), evaluation);
    models.insert(evaluation.model);
  }
  const bool models_differ = models.size() == evaluations.size();
  const int64_t length = longest_common_length(evaluations);
  PerplexityPlot plot;
  plot.title = "Perplexity by position";
  plot.subtitle = fmt::format("windows of {} tokens; {} tokens of {}", length,
                              format_count(static_cast<double>(evaluations.front().data_tokens)),
                              evaluations.front().data);
  for (const Evaluation& evaluation : evaluations) {
    plot.lines.push_back(
        {models_differ ? evaluation.model : evaluation.checkpoint, evaluation.by_length.at(length)});
  }
  return to_svg(plot);
}

}  // namespace sluice
