#include "train/evaluation_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/progress.h"
#include "train/perplexity_plot.h"
#include "train/text_table.h"

namespace sluice {
namespace {

using Row = std::vector<std::string>;

std::string bytes_text(int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

std::string perplexity_text(double value) {
  return value < 1e6 ? fmt::format("{:.3f}", value) : fmt::format("{:.3e}", value);
}

template <class Value>
std::string or_dash(const std::optional<Value>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

std::optional<double> bigram_loss(const LengthResult& result) {
  if (!result.bigram_loss_sum) return std::nullopt;
  return *result.bigram_loss_sum / static_cast<double>(result.tokens);
}

std::string state_text(const EvaluationReport& report) {
  const auto longest = std::max_element(report.results.begin(), report.results.end(),
                                        [](const auto& a, const auto& b) { return a.length < b.length; });
  if (longest == report.results.end()) return report.constant_state ? "constant" : "grows";
  const std::string bytes = bytes_text(longest->state_bytes);
  return report.constant_state ? "constant, " + bytes
                               : fmt::format("grows, {} at {}", bytes, longest->length);
}

std::string data_text(const EvaluationReport& report) {
  std::string text = fmt::format("{}: {} tokens", report.data, report.data_tokens);
  if (report.data_bytes) text += fmt::format(", {} bytes of text", *report.data_bytes);
  return text;
}

std::string length_table(const EvaluationReport& report) {
  std::vector<Row> rows{{"length", "windows", "tokens", "loss", "+-", "ppl", "ppl 2nd half", "bits/byte"}};
  if (!report.bigram_source.empty()) rows[0].insert(rows[0].end(), {"bigram loss", "bigram ppl"});
  rows[0].insert(rows[0].end(), {"tokens/s", "peak memory"});
  for (const LengthResult& r : report.results) {
    Row row{fmt::format("{}", r.length),
            fmt::format("{}", r.windows),
            fmt::format("{}", r.tokens),
            fmt::format("{:.4f}", r.mean_loss()),
            or_dash(r.standard_error, "{:.4f}"),
            perplexity_text(r.perplexity()),
            perplexity_text(r.second_half.perplexity()),
            or_dash(r.bits_per_byte(), "{:.4f}")};
    if (const auto loss = bigram_loss(r)) {
      row.push_back(fmt::format("{:.4f}", *loss));
      row.push_back(perplexity_text(std::exp(*loss)));
    }
    row.push_back(format_count(static_cast<double>(r.tokens) / std::max(r.seconds, 1e-9)));
    row.push_back(bytes_text(r.peak_bytes));
    rows.push_back(std::move(row));
  }
  return format_table(rows);
}

// Rows are the buckets of all lengths, in order; a length that has no such bucket leaves its cell empty.
std::string bucket_table(const EvaluationReport& report) {
  std::map<std::pair<int64_t, int64_t>, Row> cells;
  Row head{"position"};
  for (size_t i = 0; i < report.results.size(); ++i) {
    head.push_back(fmt::format("{}", report.results[i].length));
    for (const PositionBucket& bucket : report.results[i].buckets) {
      Row& row = cells[{bucket.begin, bucket.end}];
      row.resize(report.results.size());
      row[i] = perplexity_text(bucket.perplexity());
    }
  }
  std::vector<Row> rows{head};
  for (auto& [range, row] : cells) {
    rows.push_back({fmt::format("{}-{}", range.first, range.second - 1)});
    rows.back().insert(rows.back().end(), row.begin(), row.end());
  }
  return format_table(rows);
}

Json optional_json(const auto& value) { return value ? Json(*value) : Json(nullptr); }

Json bucket_json(const PositionBucket& bucket) {
  return Json{{"begin", bucket.begin},
              {"end", bucket.end},
              {"tokens", bucket.tokens},
              {"loss", bucket.mean_loss()},
              {"perplexity", bucket.perplexity()}};
}

Json result_json(const LengthResult& r) {
  Json json{{"length", r.length},
            {"segment", r.segment},
            {"windows", r.windows},
            {"tokens", r.tokens},
            {"bytes", optional_json(r.bytes)},
            {"loss", r.mean_loss()},
            {"standard_error", optional_json(r.standard_error)},
            {"perplexity", r.perplexity()},
            {"bits_per_byte", optional_json(r.bits_per_byte())},
            {"second_half", bucket_json(r.second_half)},
            {"state_bytes", r.state_bytes},
            {"peak_bytes", r.peak_bytes},
            {"seconds", r.seconds},
            {"buckets", Json::array()}};
  for (const PositionBucket& bucket : r.buckets) json["buckets"].push_back(bucket_json(bucket));
  if (const auto loss = bigram_loss(r)) {
    json["bigram"] = Json{{"loss", *loss}, {"perplexity", std::exp(*loss)}};
  }
  return json;
}

}  // namespace

std::string convention(const EvaluationReport& report) {
  std::string text =
      "windows of L tokens, no overlap, each from a zero state and preceded by nothing; every position "
      "scored "
      "(\"2nd half\": positions from L/2 on alone); documents as stored";
  if (report.document_token) {
    text += fmt::format(", {} document tokens (bos, id {}) among them, scored like any other",
                        report.documents, *report.document_token);
  }
  text += "; loss in nats a token";
  if (report.data_bytes) text += ", bits a byte of the text that the scored tokens stand for";
  return text;
}

std::string to_text(const EvaluationReport& report) {
  std::string text;
  text += fmt::format("model       {}: {}, {} parameters, {} on {}\n", report.checkpoint, report.model_type,
                      format_count(static_cast<double>(report.parameters)), name_of(report.dtype),
                      name_of(report.device));
  text += fmt::format("state       {} a sequence\n", state_text(report));
  text += fmt::format("data        {}\n", data_text(report));
  text += fmt::format("convention  {}\n", convention(report));
  if (!report.bigram_source.empty()) {
    text += fmt::format("bigram      interpolated Kneser-Ney over {} tokens of {}\n", report.bigram_tokens,
                        report.bigram_source);
  }
  return text + "\n" + length_table(report) + "\nperplexity by position (rows) and length (columns)\n" +
         bucket_table(report);
}

Json to_json(const EvaluationReport& report) {
  Json json{{"checkpoint", report.checkpoint},
            {"model_type", report.model_type},
            {"parameters", report.parameters},
            {"dtype", name_of(report.dtype)},
            {"device", name_of(report.device)},
            {"state", report.constant_state ? "constant" : "grows"},
            {"data", report.data},
            {"data_tokens", report.data_tokens},
            {"data_bytes", optional_json(report.data_bytes)},
            {"document_token", optional_json(report.document_token)},
            {"documents", report.documents},
            {"convention", convention(report)},
            {"results", Json::array()}};
  if (!report.bigram_source.empty()) {
    json["bigram"] = Json{{"source", report.bigram_source}, {"tokens", report.bigram_tokens}};
  }
  for (const LengthResult& result : report.results) json["results"].push_back(result_json(result));
  return json;
}

std::string to_svg(const EvaluationReport& report) {
  PerplexityPlot plot;
  plot.title = "Perplexity by position";
  plot.subtitle = fmt::format("{}, {} parameters; {} tokens of {}", report.model_type,
                              format_count(static_cast<double>(report.parameters)),
                              format_count(static_cast<double>(report.data_tokens)), report.data);
  for (const LengthResult& result : report.results) {
    PlotLine line{fmt::format("length {}", result.length), {}};
    for (const PositionBucket& bucket : result.buckets) {
      line.points.push_back({0.5 * static_cast<double>(bucket.begin + bucket.end), bucket.perplexity()});
    }
    plot.lines.push_back(std::move(line));
  }
  if (!report.results.empty()) {
    const auto loss = bigram_loss(report.results.back());
    if (loss) plot.baseline = std::exp(*loss);
    plot.baseline_label = "bigram baseline";
  }
  return to_svg(plot);
}

}  // namespace sluice
