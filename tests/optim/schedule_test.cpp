#include "optim/schedule.h"

#include <cmath>

#include "support/catch.h"

using namespace sluice;

namespace {
ScheduleConfig schedule(ScheduleKind kind, int64_t warmup = 0, double final_ratio = 0.1) {
  ScheduleConfig config;
  config.kind = kind;
  config.warmup_steps = warmup;
  config.final_ratio = final_ratio;
  return config;
}
bool close(double a, double b) { return std::abs(a - b) < 1e-12; }
}  // namespace

TEST_CASE("warm-up rises linearly and reaches the peak") {
  ScheduleConfig config = schedule(ScheduleKind::kCosine, 10);
  config.initial_ratio = 0.1;
  CHECK(close(learning_rate(config, 2.0, 0, 100), 0.2));
  CHECK(close(learning_rate(config, 2.0, 5, 100), 1.1));
  CHECK(close(learning_rate(config, 2.0, 10, 100), 2.0));
}

TEST_CASE("cosine and linear end at the final ratio, with the right middle") {
  CHECK(close(learning_rate(schedule(ScheduleKind::kCosine), 1.0, 0, 101), 1.0));
  CHECK(close(learning_rate(schedule(ScheduleKind::kCosine), 1.0, 50, 101), 0.55));
  CHECK(close(learning_rate(schedule(ScheduleKind::kCosine), 1.0, 100, 101), 0.1));
  CHECK(close(learning_rate(schedule(ScheduleKind::kLinear), 1.0, 25, 101), 1.0 - 0.9 * 0.25));
  CHECK(close(learning_rate(schedule(ScheduleKind::kLinear), 1.0, 100, 101), 0.1));
}

TEST_CASE("constant stays, wsd falls at the end only") {
  CHECK(close(learning_rate(schedule(ScheduleKind::kConstant, 5), 1.0, 99, 100), 1.0));
  ScheduleConfig wsd = schedule(ScheduleKind::kWsd, 5, 0.0);
  wsd.decay_fraction = 0.2;
  CHECK(close(learning_rate(wsd, 1.0, 5, 100), 1.0));
  CHECK(close(learning_rate(wsd, 1.0, 80, 100), 1.0));
  CHECK(learning_rate(wsd, 1.0, 81, 100) < 1.0);
  CHECK(close(learning_rate(wsd, 1.0, 99, 100), 0.0));
}

TEST_CASE("degenerate lengths give numbers") {
  for (const auto kind :
       {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kConstant, ScheduleKind::kWsd}) {
    CHECK(std::isfinite(learning_rate(schedule(kind), 1.0, 0, 1)));
    CHECK(std::isfinite(learning_rate(schedule(kind, 10), 1.0, 9, 10)));
    CHECK(std::isfinite(learning_rate(schedule(kind, 10), 1.0, 10, 10)));
  }
}
