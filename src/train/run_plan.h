// What a run will need and do, worked out from its config alone: `train --dry-run`.
#pragma once

#include <string>

#include "config/run_config.h"
#include "model/language_model.h"

namespace sluice {

struct RunPlan {
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // compute weights, and the master copy where it is another type
  int64_t gradient_bytes = 0;
  int64_t optimizer_bytes = 0;
  int64_t activation_bytes = 0;  // estimated peak of one micro batch's segment
  int64_t steps = 0;
  int64_t tokens_per_step = 0;
  int64_t accumulation = 0;
  double flops_per_token = 0;    // forward and backward
  int64_t checkpoint_bytes = 0;  // of one checkpoint
  int64_t checkpoints_kept = 0;  // at the end, the newest and those kept for good
  int64_t processes = 1;
  double tokens_per_second = 0;  // of one process, where it is known; 0: it is not

  int64_t total_tokens() const { return steps * tokens_per_step; }
  int64_t device_bytes() const { return weight_bytes + gradient_bytes + optimizer_bytes + activation_bytes; }
  // Where tokens_per_second is known, and as many processes are as many times as fast.
  double hours() const {
    return static_cast<double>(total_tokens()) / (tokens_per_second * static_cast<double>(processes)) / 3600;
  }
  std::string to_string() const;  // the table that --dry-run prints
};

// Plans for train.device "cuda" where there is no GPU, too.
RunPlan plan_run(const RunConfig& run, const ModelConfig& model);

}  // namespace sluice
