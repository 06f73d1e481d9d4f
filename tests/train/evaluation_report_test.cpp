#include "train/evaluation_report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/catch.h"

using namespace sluice;

namespace {

LengthResult result_of(int64_t length, double loss) {
  LengthResult result;
  result.length = length;
  result.segment = length;
  result.windows = 4;
  result.tokens = 4 * length;
  result.loss_sum = loss * static_cast<double>(result.tokens);
  result.standard_error = 0.01;
  result.buckets = make_buckets(length, {});
  for (PositionBucket& bucket : result.buckets) {
    bucket.tokens = 4 * (bucket.end - bucket.begin);
    bucket.loss_sum = loss * static_cast<double>(bucket.tokens);
  }
  result.second_half = {length / 2, length, 2 * length, 0.9 * loss * static_cast<double>(2 * length)};
  result.state_bytes = 2048;
  result.peak_bytes = 3 << 20;
  result.seconds = 0.5;
  return result;
}

EvaluationReport example() {
  EvaluationReport report;
  report.checkpoint = "runs/x";
  report.model_type = "gla";
  report.parameters = 1234567;
  report.constant_state = true;
  report.data = "books";
  report.data_tokens = 5000;
  report.document_token = 1;
  report.documents = 7;
  report.results = {result_of(256, 3.0), result_of(1024, 2.0)};
  return report;
}

}  // namespace

TEST_CASE("the tables name the convention, the state and every number") {
  EvaluationReport report = example();
  const std::string text = to_text(report);
  CHECK_THAT(text, test::contains("runs/x: gla, 1.23M parameters, f32 on cpu"));
  CHECK_THAT(text, test::contains("constant, 2.0 KiB a sequence"));
  CHECK_THAT(text, test::contains("5000 tokens"));
  CHECK_THAT(text, test::contains("no overlap, each from a zero state") &&
                       test::contains("7 document tokens (bos, id 1)"));
  CHECK_THAT(text, test::contains("20.086") && test::contains("7.389"));  // e^3, e^2
  CHECK_THAT(text, test::contains("14.880"));                             // second half, e^2.7
  CHECK_THAT(text, test::contains("0-127") && test::contains("512-1023"));
  CHECK_THAT(text, !test::contains("bigram"));
  report.constant_state = false;
  CHECK_THAT(to_text(report), test::contains("grows, 2.0 KiB at 1024"));
  report.bigram_source = "train";
  for (LengthResult& result : report.results)
    result.bigram_loss_sum = 4.0 * static_cast<double>(result.tokens);
  CHECK_THAT(to_text(report), test::contains("bigram ppl") && test::contains("54.598"));
}

TEST_CASE("the JSON holds what the tables show, exactly") {
  EvaluationReport report = example();
  report.results[0].bytes = 4096;
  report.results[1].standard_error.reset();
  const Json json = parse_json(dump_json(to_json(report)), "test", ErrorKind::kInternal);
  CHECK(json.at("parameters") == 1234567);
  CHECK(json.at("convention") == convention(report));
  REQUIRE(json.at("results").size() == 2);
  const Json& first = json.at("results")[0];
  CHECK(first.at("length") == 256);
  CHECK(first.at("tokens") == 1024);
  CHECK(first.at("loss").get<double>() == 3.0);
  CHECK(first.at("perplexity").get<double>() == std::exp(3.0));
  CHECK(first.at("bits_per_byte").get<double>() == Approx(3.0 / std::log(2.0) / 4));
  CHECK(first.at("buckets").size() == 2);
  CHECK(first.at("buckets")[1].at("begin") == 128);
  CHECK(!first.contains("bigram"));
  CHECK(json.at("results")[1].at("standard_error").is_null());
  CHECK(json.at("results")[1].at("bits_per_byte").is_null());
  report.bigram_source = "train";
  report.results[0].bigram_loss_sum = 4096.0;
  CHECK(to_json(report).at("results")[0].at("bigram").at("loss") == 4.0);
}

TEST_CASE("the picture has a line for each length") {
  const std::string svg = to_svg(example());
  CHECK_THAT(svg, test::contains("length 256") && test::contains("length 1024"));
}
