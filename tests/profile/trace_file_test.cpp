#include "profile/trace_file.h"

#include <nlohmann/json.hpp>

#include "support/catch.h"

using namespace sluice::profile;

namespace {

Timeline sample() {
  Timeline timeline;
  DeviceWork kernel;
  kernel.name = "f<\"quoted\\\", 1>";
  kernel.full_name = "void f<\"quoted\\\", 1>(int)\n";
  kernel.begin = 5'000'000'001, kernel.end = 5'000'003'501;
  kernel.stream = 7;
  kernel.of_graph = true;
  DeviceWork sum = kernel;
  sum.name = "ncclDevKernel_AllReduce";
  sum.stream = 9;
  sum.collective = true;
  DeviceWork copy;
  copy.kind = DeviceWork::Kind::kCopy;
  copy.name = "copy to the GPU";
  copy.bytes = int64_t{1} << 40;
  copy.stream = 7;
  timeline.device = {kernel, sum, copy};
  timeline.host = {{"step", 4'999'999'999, 5'000'010'000, 0}, {"linear", 5'000'000'000, 5'000'000'100, 1}};
  return timeline;
}

std::vector<nlohmann::json> events_of(const nlohmann::json& trace, const std::string& kind) {
  std::vector<nlohmann::json> found;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == kind) found.push_back(event);
  }
  return found;
}

}  // namespace

TEST_CASE("a trace is JSON whose events have their times in microseconds") {
  const auto trace = nlohmann::json::parse(to_chrome_trace(sample(), 3));
  const auto spans = events_of(trace, "X");
  REQUIRE(spans.size() == 5);
  for (const auto& span : spans) CHECK(span["pid"] == 3);
  CHECK(spans[0]["name"] == "step");
  CHECK(spans[0]["ts"].get<double>() == Approx(4999999.999).epsilon(1e-12));
  CHECK(spans[0]["dur"].get<double>() == Approx(10.001).epsilon(1e-12));
  CHECK(spans[2]["name"] == "f<\"quoted\\\", 1>");
  CHECK(spans[2]["args"]["full name"] == "void f<\"quoted\\\", 1>(int)\n");
  CHECK(spans[2]["args"]["of a graph"] == true);
  CHECK(spans[2]["dur"].get<double>() == Approx(3.5));
  CHECK(spans[3]["cat"] == "communication");
  CHECK(spans[4]["args"]["bytes"] == int64_t{1} << 40);
}

TEST_CASE("a trace names its tracks") {
  const auto trace = nlohmann::json::parse(to_chrome_trace(sample(), 0));
  std::map<int, std::string> names;
  std::string process;
  for (const auto& event : events_of(trace, "M")) {
    if (event["name"] == "process_name") process = event["args"]["name"];
    if (event["name"] == "thread_name") names[event["tid"]] = event["args"]["name"];
  }
  CHECK(process == "rank 0");
  CHECK(names == std::map<int, std::string>{{0, "host"},
                                            {1, "host, thread 1"},
                                            {1007, "GPU, stream 7"},
                                            {1009, "GPU, stream 9, communication"}});
}

TEST_CASE("a trace of nothing and names that are no text are JSON, too") {
  CHECK(nlohmann::json::parse(to_chrome_trace({}, 0))["traceEvents"].size() == 1);
  Timeline timeline = sample();
  timeline.device[0].name = "\xff\xfe";
  CHECK_NOTHROW(nlohmann::json::parse(to_chrome_trace(timeline, 0)));
}
