#include "train/run_report.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/run_series.h"

using namespace sluice;

namespace {

namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  write_file_atomically(path, text, ErrorKind::kData);
}

std::string training_line(int64_t step, const std::string& loss) {
  return fmt::format(
      R"({{"step":{},"loss":{},"grad_norm":0.1234567890123,"lr":0.001,"tokens":{},"skipped":0}})"
      "\n",
      step, loss, step * 2048);
}

std::string timing_line(int64_t step) {
  return fmt::format(R"({{"step":{},"seconds":0.5,"tokens_per_second":{}.25,"flops_per_second":2e9,)"
                     R"("peak_bytes":1048576}})"
                     "\n",
                     step, 4000 + step % 977);
}

void write_long_run(const fs::path& directory, int64_t steps) {
  std::string log, timing;
  for (int64_t step = 1; step <= steps; ++step) {
    log += training_line(step, fmt::format("{:.15f}", 2 + std::sin(static_cast<double>(step))));
    timing += timing_line(step);
  }
  write(directory / "log.jsonl", log);
  write(directory / "timing.jsonl", timing);
}

std::vector<SeriesPoint> wave(int64_t size) {
  std::vector<SeriesPoint> points;
  for (int64_t i = 0; i < size; ++i)
    points.push_back({static_cast<double>(i), std::sin(0.37 * static_cast<double>(i))});
  return points;
}

int exit_code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.exit_code();
  }
  return 0;
}

}  // namespace

TEST_CASE("thinning keeps a series that fits") {
  CHECK(thin(wave(100), 100).size() == 100);
  CHECK(thin({}, 100).empty());
}

TEST_CASE("thinning keeps ends, extremes and order") {
  for (const int64_t size : {101, 5001, 123457}) {
    auto points = wave(size);
    points[static_cast<size_t>(size / 3)].y = 50;
    points[static_cast<size_t>(size / 2)].y = -50;
    const auto kept = thin(points, 100);
    CAPTURE(size);
    REQUIRE(kept.size() <= 100);
    CHECK(kept.size() >= 90);
    CHECK(kept.front().x == 0);
    CHECK(kept.back().x == static_cast<double>(size - 1));
    double greatest = -1e9, least = 1e9;
    for (size_t i = 0; i < kept.size(); ++i) {
      if (i > 0) CHECK(kept[i - 1].x < kept[i].x);
      greatest = std::max(greatest, kept[i].y);
      least = std::min(least, kept[i].y);
    }
    CHECK(greatest == 50);
    CHECK(least == -50);
  }
}

TEST_CASE("thinning prefers numbers to what is not finite") {
  auto points = wave(10000);
  for (size_t i = 0; i < points.size(); ++i) {
    if (i % 3 != 0) points[i].y = std::numeric_limits<double>::quiet_NaN();
  }
  for (size_t i = 2000; i < 4000; ++i) points[i].y = std::numeric_limits<double>::quiet_NaN();
  int64_t gaps = 0, elsewhere = 0;
  for (const SeriesPoint& point : thin(points, 100)) {
    if (!std::isnan(point.y)) continue;
    ++gaps;
    if (point.x < 1800 || point.x > 4200) ++elsewhere;
  }
  CHECK(gaps > 5);
  CHECK(elsewhere <= 1);  // the last point is kept as it is
}

TEST_CASE("indices are spread evenly, with both ends") {
  CHECK(spread(3, 12) == std::vector<int64_t>{0, 1, 2});
  CHECK(spread(100, 4) == std::vector<int64_t>{0, 33, 66, 99});
  CHECK(spread(100, 1) == std::vector<int64_t>{99});
  CHECK(spread(0, 4).empty());
}

TEST_CASE("texts are cut between characters") {
  CHECK(shorten("abc", 3) == "abc");
  CHECK(shorten("abcd", 3) == "abc\u2026");
  CHECK(shorten("a\u20ac\u20ac", 5) == "a\u20ac\u2026");  // the second euro sign would end at byte 7
}

TEST_CASE("a run is read with all its files") {
  const test::TemporaryDirectory directory;
  const fs::path run = directory / "first";
  write(run / "log.jsonl", training_line(1, "8.123456789") + training_line(2, "\"nan\"") +
                               R"({"step":2,"validation_loss":7.5,"validation_tokens":64})"
                               "\n"
                               R"({"step":2,"prompt":"a","sample":"b"})"
                               "\n" +
                               training_line(3, "8") + R"({"step":4,"loss":)");
  write(run / "timing.jsonl", timing_line(1) + timing_line(2) + timing_line(3));
  write(run / "run.json",
        R"({"name":"tiny","model":{"model_type":"gla","vocab_size":64,"hidden_size":32,"num_hidden_layers":1,
            "num_heads":2},"train":{"steps":10}})");
  write(run / "evaluation.json",
        R"({"results":[{"length":256,"buckets":[{"begin":0,"end":128,"perplexity":15.58563788},
                                                {"begin":128,"end":256,"perplexity":"inf"}]}]})");
  const Json read = read_run(run);
  CHECK(read.at("name") == "tiny");
  CHECK(read.at("directory") == run.string());
  CHECK(read.at("parameters").get<int64_t>() > 2 * 64 * 32);
  CHECK(read.at("config").at("train").at("steps") == 10);
  CHECK(read.at("last").at("step") == 3);
  CHECK(read.at("last").at("tokens") == 3 * 2048);
  const Json& series = read.at("series");
  CHECK(series.at("loss").dump() == R"({"x":[1,2,3],"y":[8.12346,null,8.0]})");
  CHECK(series.at("grad_norm").at("y")[0] == 0.123457);
  CHECK(series.at("validation_loss").dump() == R"({"x":[2],"y":[7.5]})");
  CHECK(series.at("tokens_per_second").at("y").size() == 3);
  CHECK(series.at("peak_bytes").at("y")[0] == 1.04858e6);
  CHECK(read.at("samples").dump() == R"([{"step":2,"samples":[{"prompt":"a","text":"b"}]}])");
  CHECK(read.at("perplexity").dump() == R"([{"length":256,"x":[64.0,192.0],"y":[15.5856,null]}])");
}

TEST_CASE("a run needs its log alone") {
  const test::TemporaryDirectory directory;
  write(directory / "only" / "log.jsonl", training_line(1, "8"));
  const Json read = read_run(directory / "only" / "");
  CHECK(read.at("name") == "only");
  CHECK_FALSE(read.contains("parameters"));
  CHECK_FALSE(read.contains("perplexity"));
  CHECK_FALSE(read.at("series").contains("tokens_per_second"));
  // A model this program does not know leaves out its size, not its curves.
  write(directory / "only" / "run.json", R"({"name":7,"model":{"model_type":"retnet"}})");
  CHECK_FALSE(read_run(directory / "only").contains("parameters"));
  CHECK(read_run(directory / "only").at("name") == "only");
}

TEST_CASE("what cannot be read is named") {
  const test::TemporaryDirectory directory;
  CHECK_THROWS_WITH(read_run(directory / "none"), test::contains("none: no log.jsonl; a run's"));
  CHECK(exit_code_of([&] { read_run(directory / "none"); }) == 3);
  write(directory / "run" / "log.jsonl", training_line(1, "8") + "{\n");
  CHECK_THROWS_WITH(read_run(directory / "run"), test::contains("log.jsonl:2"));
  write(directory / "run" / "log.jsonl", training_line(1, "8"));
  write(directory / "run" / "evaluation.json", R"({"results":[{"length":3}]})");
  CHECK_THROWS_WITH(read_run(directory / "run"),
                    test::contains("evaluation.json: not what `evaluate --json`"));
  CHECK(exit_code_of([&] { read_run(directory / "run"); }) == 3);
}

TEST_CASE("samples of many steps are thinned, the last kept") {
  const test::TemporaryDirectory directory;
  std::string log;
  for (int step = 1; step <= 100; ++step) {
    for (int i = 0; i < 6; ++i)
      log += fmt::format("{{\"step\":{},\"prompt\":\"p{}\",\"sample\":\"{}\"}}\n", step, i,
                         std::string(3000, 'x'));
  }
  write(directory / "log.jsonl", log);
  const Json samples = read_run(directory.path()).at("samples");
  REQUIRE(samples.size() == 12);
  CHECK(samples.front().at("step") == 1);
  CHECK(samples.back().at("step") == 100);
  CHECK(samples.back().at("samples").size() == 4);
  CHECK(samples.back().at("samples")[3].at("text").get<std::string>().size() == 2003);
}

TEST_CASE("no text ends the element that holds it") {
  const Json data{{"text", "</script><!-- <script> & \u2028 $& \\"}};
  const std::string page = fill_report("<script>@@SLUICE_DATA@@</script>after", data);
  const std::string inner = page.substr(8, page.size() - 8 - std::string("</script>after").size());
  CHECK(inner.find('<') == std::string::npos);
  CHECK(Json::parse(inner) == data);
  CHECK_THROWS(fill_report("no mark", data));
}

TEST_CASE("a report of ten thousand steps is small and quick") {
  if (!report_missing_because().empty())
    return;  // the page needs npm; the browser test tells that it is missing
  const test::TemporaryDirectory directory;
  write_long_run(directory / "long", 10000);
  const auto start = std::chrono::steady_clock::now();
  write_report({directory / "long"}, directory / "report.html");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
#ifndef SLUICE_SANITIZED
  CHECK(seconds.count() < 1.0);
#endif
  CHECK(fs::file_size(directory / "report.html") < 2'000'000);
  // Eight of them share the room.
  write_report(std::vector<fs::path>(8, directory / "long"), directory / "all.html");
  CHECK(fs::file_size(directory / "all.html") < 2'000'000);
}

TEST_CASE("a live report is written at once, then rarely, and at the end") {
  const test::TemporaryDirectory directory;
  write(directory / "log.jsonl", training_line(1, "8"));
  LiveReport report(directory.path());
  report.refresh();
  const fs::path page = directory / "report.html";
  REQUIRE(fs::exists(page) == report_missing_because().empty());
  if (!report_missing_because().empty()) return;
  fs::remove(page);
  report.refresh();
  CHECK_FALSE(fs::exists(page));
  report.finish();
  CHECK(fs::exists(page));
  // A log that cannot be read ends the reports, not the run.
  fs::remove(page);
  write(directory / "log.jsonl", "{\n");
  CHECK_NOTHROW(report.finish());
  CHECK_FALSE(fs::exists(page));
}
