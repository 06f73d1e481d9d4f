#include "config/run_config.h"
#include "config/run_config_names.h"

namespace sluice {
namespace {

Json sources_to_json(const std::vector<DataSource>& sources) {
  Json result = Json::array();
  for (const DataSource& source : sources) {
    result.push_back(Json{{"path", source.path}, {"weight", source.weight}});
  }
  return result;
}

Json to_json(const DataConfig& data) {
  return {{"train", sources_to_json(data.train)},
          {"validation", sources_to_json(data.validation)},
          {"tokenizer", data.tokenizer},
          {"shuffle", data.shuffle},
          {"seed", data.seed},
          {"reset_state_at_document", data.reset_state_at_document},
          {"document_token", data.document_token ? Json(*data.document_token) : Json(nullptr)},
          {"prefetch", data.prefetch},
          {"labels_from_token", data.labels_from_token},
          {"labels_from_position", data.labels_from_position}};
}

Json to_json(const OptimizerConfig& optimizer) {
  return {{"name", optimizer.name},
          {"lr", optimizer.lr},
          {"beta1", optimizer.beta1},
          {"beta2", optimizer.beta2},
          {"eps", optimizer.eps},
          {"weight_decay", optimizer.weight_decay},
          {"decay_embeddings", optimizer.decay_embeddings},
          {"decay_norms_and_biases", optimizer.decay_norms_and_biases},
          {"grad_clip", optimizer.grad_clip}};
}

Json to_json(const ScheduleConfig& schedule) {
  return {{"kind", name_of_value(schedule.kind)},
          {"warmup_steps", schedule.warmup_steps},
          {"initial_ratio", schedule.initial_ratio},
          {"final_ratio", schedule.final_ratio},
          {"decay_fraction", schedule.decay_fraction}};
}

Json to_json(const TrainConfig& train) {
  return {{"steps", train.steps},
          {"sequence_length", train.sequence_length},
          {"micro_batch_sequences", train.micro_batch_sequences},
          {"global_batch_tokens", train.global_batch_tokens},
          {"segments", train.segments},
          {"recompute", name_of_value(train.recompute)},
          {"seed", train.seed},
          {"device", train.device},
          {"dtype", train.dtype},
          {"cuda_graph", train.cuda_graph},
          {"threads", train.threads},
          {"output_dir", train.output_dir},
          {"init_from", train.init_from},
          {"nonfinite", train.nonfinite},
          {"nonfinite_limit", train.nonfinite_limit},
          {"validate_every", train.validate_every},
          {"validate_sequences", train.validate_sequences},
          {"sample_every", train.sample_every},
          {"sample_tokens", train.sample_tokens},
          {"sample_prompts", Json(train.sample_prompts)},
          {"sample_temperature", train.sample_temperature}};
}

Json to_json(const CheckpointConfig& checkpoint) {
  return {{"every", checkpoint.every},
          {"every_minutes", checkpoint.every_minutes},
          {"keep_last", checkpoint.keep_last},
          {"keep_every", checkpoint.keep_every},
          {"verify", checkpoint.verify}};
}

Json to_json(const ParallelConfig& parallel) {
  return {{"world_size", parallel.world_size},       {"zero", parallel.zero},
          {"sequence", parallel.sequence},           {"check_weights_every", parallel.check_weights_every},
          {"start_seconds", parallel.start_seconds}, {"first_step_seconds", parallel.first_step_seconds},
          {"step_seconds", parallel.step_seconds},   {"validate_seconds", parallel.validate_seconds},
          {"save_seconds", parallel.save_seconds}};
}

}  // namespace

Json to_json(const RunConfig& config) {
  Json result = Json::object();
  result["name"] = config.name;
  result["model"] = config.model;
  result["data"] = to_json(config.data);
  result["optimizer"] = to_json(config.optimizer);
  result["schedule"] = to_json(config.schedule);
  result["train"] = to_json(config.train);
  result["checkpoint"] = to_json(config.checkpoint);
  result["log"] = Json{{"every", config.log.every},
                       {"tensorboard", config.log.tensorboard},
                       {"progress", config.log.progress}};
  result["parallel"] = to_json(config.parallel);
  return result;
}

}  // namespace sluice
