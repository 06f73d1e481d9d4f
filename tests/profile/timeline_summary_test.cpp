#include "profile/timeline_summary.h"

#include "support/catch.h"

using namespace sluice::profile;
using Catch::Contains;

namespace {

constexpr int64_t kMs = 1000000;

DeviceWork kernel(const std::string& name, int64_t begin_ms, int64_t end_ms, uint32_t stream = 1) {
  DeviceWork work;
  work.name = name;
  work.begin = begin_ms * kMs, work.end = end_ms * kMs;
  work.stream = stream;
  return work;
}
DeviceWork collective(int64_t begin_ms, int64_t end_ms) {
  DeviceWork work = kernel("ncclDevKernel_AllReduce", begin_ms, end_ms, 2);
  work.collective = true;
  return work;
}
DeviceWork copy(int64_t begin_ms, int64_t end_ms) {
  DeviceWork work = kernel("copy to the GPU", begin_ms, end_ms, 3);
  work.kind = DeviceWork::Kind::kCopy;
  return work;
}

// Two steps of 50 ms, from 1000 on.
Timeline timeline_of(std::vector<DeviceWork> work) {
  Timeline timeline;
  timeline.begin = 1000 * kMs, timeline.end = 1100 * kMs;
  timeline.steps = 2;
  timeline.device = std::move(work);
  return timeline;
}

}  // namespace

TEST_CASE("time by kernel, longest first") {
  const TimelineSummary summary = summarize(timeline_of(
      {kernel("a", 1000, 1010), kernel("b", 1010, 1040), kernel("a", 1050, 1055), kernel("c", 2000, 2001)}));
  REQUIRE(summary.device.size() == 2);
  CHECK(summary.device[0].name == "b");
  CHECK(summary.device[0].calls == 1);
  CHECK(summary.device[1].name == "a");
  CHECK(summary.device[1].calls == 2);
  CHECK(summary.device[1].nanoseconds == 15 * kMs);
}

TEST_CASE("busy counts moments, not kernels, and inside the stretch alone") {
  const TimelineSummary summary = summarize(timeline_of(
      {kernel("a", 990, 1010), kernel("b", 1005, 1020), copy(1015, 1030), kernel("c", 1090, 1200)}));
  CHECK(summary.busy == 40 * kMs);
  CHECK(summary.idle == 60 * kMs);
  CHECK(summary.longest_gap == 60 * kMs);
  CHECK(summary.before_gap == "copy to the GPU");
}

TEST_CASE("communication is hidden under kernels, not under copies nor other communication") {
  SECTION("in part") {
    const TimelineSummary summary = summarize(timeline_of(
        {collective(1010, 1030), collective(1025, 1040), kernel("a", 1000, 1015), kernel("b", 1035, 1060)}));
    CHECK(summary.communication == 30 * kMs);
    CHECK(summary.overlapped == 10 * kMs);
  }
  SECTION("whole, under kernels that overlap each other") {
    const TimelineSummary summary =
        summarize(timeline_of({collective(1010, 1030), kernel("a", 1000, 1025), kernel("b", 1020, 1060, 4)}));
    CHECK(summary.overlapped == 20 * kMs);
  }
  SECTION("not at all") {
    const TimelineSummary summary =
        summarize(timeline_of({collective(1010, 1030), copy(1010, 1030), kernel("a", 1030, 1060)}));
    CHECK(summary.communication == 20 * kMs);
    CHECK(summary.overlapped == 0);
  }
}

TEST_CASE("the table has milliseconds a step") {
  Timeline timeline = timeline_of(
      {collective(1010, 1030), kernel("a", 1000, 1015), kernel("b", 1035, 1060), kernel("b", 1060, 1061)});
  timeline.host = {{"step", 1000 * kMs, 1048 * kMs, 0}, {"step", 1050 * kMs, 1100 * kMs, 0}};
  const std::string table = to_table(timeline, summarize(timeline));
  CHECK_THAT(table, Contains("2 steps, 50.000 ms each"));
  CHECK_THAT(table,
             Contains("GPU busy 28.000 ms (56.0%), idle 22.000 ms (44.0%); longest gap 39.000 ms, after b"));
  CHECK_THAT(table, Contains("communication 10.000 ms (20.0%), of which 2.500 ms (25.0% of it) under other "
                             "kernels and 7.500 ms alone"));
  CHECK_THAT(table, Contains("      1.0    13.000  26.0%\n"));  // b
  CHECK_THAT(table, Contains("      1.0    49.000  98.0%\n"));  // step
}

TEST_CASE("the table sums up what it has no lines for, and says what is missing") {
  Timeline timeline = timeline_of({kernel("a", 1000, 1030), kernel("b", 1030, 1050), kernel("c", 1050, 1060),
                                   kernel(std::string(100, 'x'), 1060, 1100)});
  timeline.lost = 7;
  const std::string table = to_table(timeline, summarize(timeline), 2);
  CHECK_THAT(table, Contains(std::string(61, 'x') + "... "));
  CHECK_THAT(table, Contains("2 others"));
  CHECK_THAT(table, Contains("1.0    15.000  30.0%"));
  CHECK_THAT(table, Contains("7 records were lost"));
  CHECK_THAT(table, !Contains("communication"));

  timeline.device.clear();
  timeline.no_device = "no reason";
  CHECK_THAT(to_table(timeline, summarize(timeline)), Contains("nothing of the GPU: no reason"));
}

TEST_CASE("an empty timeline is no division by zero") {
  Timeline timeline;
  timeline.steps = 0;
  const TimelineSummary summary = summarize(timeline);
  CHECK(summary.busy == 0);
  CHECK_THAT(to_table(timeline, summary), Contains("1 step, 0.000 ms each"));
}
