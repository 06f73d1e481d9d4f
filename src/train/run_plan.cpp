#include "train/run_plan.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/progress.h"
#include "train/trainer.h"

namespace sluice {
namespace {

// Bytes kept for backward of one token, from what the ops save: the residual stream twice (in f32), two
// norms, the mixer's projections, gates, output and gated output, gate and up, their product; without what is
// cheap to make again; or the layer's input alone. Within a tenth of what was measured of gated linear
// attention; softmax attention keeps less where nothing is recomputed.
int64_t activation_bytes_per_token(const ModelConfig& model, Recompute recompute, int64_t element) {
  const int64_t hidden = model.hidden_size, mlp = model.mlp_width();
  const int64_t stream = (element == 2 ? 2 : 1) * hidden;
  const int64_t whole = 2 * stream + 8 * hidden + 3 * mlp;
  const int64_t kept = recompute == Recompute::kLayer       ? stream
                       : recompute == Recompute::kSelective ? 2 * stream + 9 * hidden / 2 + 2 * mlp
                                                            : whole;
  // Under recomputation one layer at a time is whole.
  const int64_t live_layer = recompute == Recompute::kNone ? 0 : whole;
  return element * (model.num_hidden_layers * kept + live_layer + 4 * hidden);
}

// The device that the config names, there or not.
Device planned_device(const TrainConfig& train) {
  return train.device == "cuda" ? Device::kCuda : compute_device(train);
}

DType planned_dtype(const TrainConfig& train) {
  if (train.dtype != "auto") return parse_dtype(train.dtype);
  return planned_device(train) == Device::kCuda ? DType::kBF16 : DType::kF32;
}

}  // namespace

RunPlan plan_run(const RunConfig& run, const ModelConfig& model) {
  const LanguageModel shapes(model);
  const int64_t element = size_of(planned_dtype(run.train));
  RunPlan plan;
  plan.processes = std::max<int64_t>(1, run.parallel.world_size);
  plan.parameters = shapes.parameter_count();
  // Under bf16 a copy of the weights is rounded; the rest is fp32.
  const int64_t master = element == 2 ? 4 : element;
  plan.weight_bytes = plan.parameters * (element == 2 ? element + master : element);
  plan.gradient_bytes = plan.parameters * master;
  plan.optimizer_bytes = 2 * plan.parameters * master;
  if (run.parallel.zero > 0) {
    const int64_t ranks = std::max<int64_t>(1, run.parallel.world_size);
    plan.optimizer_bytes /= ranks;
    if (element == 2) plan.weight_bytes = plan.parameters * element + plan.parameters * master / ranks;
  }
  const int64_t segment_tokens = run.train.micro_batch_sequences * run.train.sequence_length /
                                 run.train.segments / run.parallel.sequence;
  const int64_t logits_chunk = int64_t{planned_device(run.train) == Device::kCpu ? 16 : 256} << 20;
  plan.activation_bytes = segment_tokens * activation_bytes_per_token(model, run.train.recompute, element) +
                          model.vocab_size * model.hidden_size * master + logits_chunk;
  plan.steps = run.train.steps;
  plan.accumulation = accumulation_steps(run);
  plan.tokens_per_step = plan.accumulation * run.train.micro_batch_sequences * run.train.sequence_length *
                         run.parallel.data_ranks();
  plan.flops_per_token = 3.0 * shapes.forward_flops_per_token(run.train.sequence_length);
  plan.checkpoint_bytes = 3 * plan.parameters * master;
  plan.checkpoints_kept = run.checkpoint.keep_last;
  if (run.checkpoint.keep_every > 0) plan.checkpoints_kept += plan.steps / run.checkpoint.keep_every;
  return plan;
}

std::string RunPlan::to_string() const {
  const auto bytes = [](int64_t count) { return format_bytes(static_cast<double>(count)); };
  const auto count = [](double value) { return format_count(value); };
  std::string text;
  text += fmt::format("parameters      {} ({})\n", parameters, count(static_cast<double>(parameters)));
  text += fmt::format("device memory   {}: weights {}, gradients {}, optimizer {}, activations about {}\n",
                      bytes(device_bytes()), bytes(weight_bytes), bytes(gradient_bytes),
                      bytes(optimizer_bytes), bytes(activation_bytes));
  text += fmt::format("steps           {} of {} tokens (micro batches: {}), {} tokens in all\n", steps,
                      tokens_per_step, accumulation, count(static_cast<double>(total_tokens())));
  text += fmt::format("arithmetic      {}FLOP a token, {}FLOP in all\n", count(flops_per_token),
                      count(flops_per_token * static_cast<double>(total_tokens())));
  if (tokens_per_second > 0) {
    text += fmt::format("time            {:.1f} hours on {} process{} of {} tokens/s\n", hours(), processes,
                        processes == 1 ? "" : "es", count(tokens_per_second));
  }
  text += fmt::format("disk            {} a checkpoint, {} kept: {}", bytes(checkpoint_bytes),
                      checkpoints_kept, bytes(checkpoint_bytes * (checkpoints_kept + 1)));
  return text;
}

}  // namespace sluice
