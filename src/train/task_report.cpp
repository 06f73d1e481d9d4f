#include "train/task_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/progress.h"
#include "train/text_table.h"

namespace sluice {
namespace {

using Row = std::vector<std::string>;

std::string number_text(double value) { return fmt::format("{:.{}f}", value, value < 100 ? 4 : 2); }

std::string error_text(const TaskMeasure& measure) {
  return measure.standard_error ? number_text(*measure.standard_error) : "-";
}

std::string score_table(const std::vector<TaskResult>& results) {
  std::vector<Row> rows{{"file", "type", "measure", "items", "value", "+-", "tokens", "longest", "tokens/s"}};
  for (const TaskResult& result : results) {
    for (const TaskMeasure& measure : result.measures) {
      rows.push_back({result.file, std::string(name_of(result.type)), measure.name,
                      fmt::format("{}", result.items), number_text(measure.value), error_text(measure),
                      fmt::format("{}", result.tokens), fmt::format("{}", result.longest),
                      format_count(static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9))});
    }
  }
  return format_table(rows, 3);
}

// Lengths are rows and depths columns; a dash where no item has the pair.
std::string needle_table(const TaskResult& result) {
  std::set<int64_t> lengths;
  std::set<double> depths;
  for (const NeedleCell& cell : result.cells) {
    lengths.insert(cell.length);
    depths.insert(cell.depth);
  }
  std::vector<Row> rows{{"length"}};
  for (const double depth : depths) rows[0].push_back(fmt::format("{}", depth));
  for (const int64_t length : lengths) {
    Row& row = rows.emplace_back(Row{fmt::format("{}", length)});
    for (const double depth : depths) {
      const auto cell = std::find_if(result.cells.begin(), result.cells.end(), [&](const NeedleCell& c) {
        return c.length == length && c.depth == depth;
      });
      row.push_back(cell == result.cells.end() ? "-" : fmt::format("{:.2f}", cell->contains.value));
    }
  }
  return fmt::format("\n{}: answers found, by length in tokens (rows) and depth (columns)\n", result.file) +
         format_table(rows);
}

Json measure_json(const TaskMeasure& measure) {
  return Json{{"value", measure.value},
              {"standard_error", measure.standard_error ? Json(*measure.standard_error) : Json(nullptr)}};
}

Json result_json(const TaskResult& result) {
  Json json{{"file", result.file},       {"type", name_of(result.type)}, {"items", result.items},
            {"tokens", result.tokens},   {"longest", result.longest},    {"seconds", result.seconds},
            {"measures", Json::object()}};
  for (const TaskMeasure& measure : result.measures) json["measures"][measure.name] = measure_json(measure);
  if (result.type != TaskType::kNeedle) return json;
  json["cells"] = Json::array();
  for (const NeedleCell& cell : result.cells) {
    json["cells"].push_back(Json{{"length", cell.length},
                                 {"depth", cell.depth},
                                 {"prompts", cell.prompts},
                                 {"contains", measure_json(cell.contains)}});
  }
  return json;
}

// Every outcome has a score for each measure that is a mean of scores; those come first.
Json outcome_json(const TaskResult& result, const TaskOutcome& outcome) {
  Json json{{"file", result.file}, {"line", outcome.line}, {"type", name_of(result.type)}};
  if (!outcome.id.empty()) json["id"] = outcome.id;
  if (result.type == TaskType::kNeedle) {
    json["length"] = outcome.length;
    json["depth"] = outcome.depth;
  }
  for (size_t i = 0; i < outcome.scores.size(); ++i) {
    json[result.measures[i].name] = static_cast<int64_t>(outcome.scores[i]);
  }
  if (!outcome.log_likelihoods.empty()) json["log_likelihoods"] = outcome.log_likelihoods;
  if (outcome.output) json["output"] = *outcome.output;
  return json;
}

}  // namespace

std::string to_text(const TaskReport& report) {
  std::string text = fmt::format("model       {}: {}, {} parameters, {} on {}\n", report.checkpoint,
                                 report.model_type, format_count(static_cast<double>(report.parameters)),
                                 name_of(report.dtype), name_of(report.device));
  text += fmt::format("tokenizer   {}\n\n", report.tokenizer);
  text += score_table(report.results);
  for (const TaskResult& result : report.results) {
    if (result.type == TaskType::kNeedle) text += needle_table(result);
  }
  return text;
}

Json to_json(const TaskReport& report) {
  Json json{{"checkpoint", report.checkpoint},     {"model_type", report.model_type},
            {"parameters", report.parameters},     {"dtype", name_of(report.dtype)},
            {"device", name_of(report.device)},    {"tokenizer", report.tokenizer},
            {"batch_tokens", report.batch_tokens}, {"results", Json::array()}};
  for (const TaskResult& result : report.results) json["results"].push_back(result_json(result));
  return json;
}

std::string details_jsonl(const TaskReport& report) {
  std::string text;
  for (const TaskResult& result : report.results) {
    for (const TaskOutcome& outcome : result.outcomes) {
      text += dump_json(outcome_json(result, outcome), -1) + "\n";
    }
  }
  return text;
}

}  // namespace sluice
