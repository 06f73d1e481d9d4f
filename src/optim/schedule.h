// The learning rate as a pure function of the step, so that nothing about it needs saving.
#pragma once

#include <cstdint>

#include "config/run_config.h"

namespace sluice {

// The rate for the update numbered `step` of `steps` (from 0). Warm-up rises linearly from peak *
// initial_ratio, reaching `peak` at step warmup_steps; then the rate falls to peak * final_ratio at the last
// step: along a half cosine, a line, not at all (constant), or over the last decay_fraction of all steps only
// (wsd: warm-up, stable, decay; linear).
double learning_rate(const ScheduleConfig& schedule, double peak, int64_t step, int64_t steps);

}  // namespace sluice
