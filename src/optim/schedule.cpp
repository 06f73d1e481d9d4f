#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice {

double learning_rate(const ScheduleConfig& schedule, double peak, int64_t step, int64_t steps) {
  const auto at = static_cast<double>(step);
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  if (at < warmup) return peak * (schedule.initial_ratio + (1.0 - schedule.initial_ratio) * at / warmup);
  const auto last = static_cast<double>(steps - 1);
  const double fall = 1.0 - schedule.final_ratio;
  // Share of the way from `begin` to the last step.
  const auto progress_from = [&](double begin) {
    return last > begin ? std::clamp((at - begin) / (last - begin), 0.0, 1.0) : 1.0;
  };
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return peak;
    case ScheduleKind::kLinear:
      return peak * (1.0 - fall * progress_from(warmup));
    case ScheduleKind::kCosine:
      return peak *
             (schedule.final_ratio + fall * 0.5 * (1.0 + std::cos(std::numbers::pi * progress_from(warmup))));
    case ScheduleKind::kWsd: {
      const double begin = std::max(warmup, static_cast<double>(steps) * (1.0 - schedule.decay_fraction));
      return at <= begin ? peak : peak * (1.0 - fall * progress_from(begin));
    }
  }
  return peak;
}

}  // namespace sluice
