#include "apps/training_run.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "config/overrides.h"
#include "core/file.h"
#include "core/random.h"
#include "core/sha256.h"
#include "data/shard_writer.h"

namespace sluice::test {

Outcome run_program(const std::string& program, const std::vector<std::string>& arguments,
                    const ChildProcess::Environment& environment) {
  std::vector<std::string> command = {std::string(SLUICE_BINARY_DIR) + "/" + program};
  command.insert(command.end(), arguments.begin(), arguments.end());
  ChildProcess child(command, environment);
  Outcome outcome;
  outcome.output = child.read_all();
  outcome.exit_code = child.wait();
  return outcome;
}

TrainingRun::TrainingRun() {
  const auto data = directory_ / "data";
  for (const auto& [prefix, count] : {std::pair<const char*, int64_t>{"train", 6000}, {"validation", 700}}) {
    ShardWriter writer(data, prefix, 61, count);
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(Philox(5).bits64(i) % 61);
    writer.append(tokens);
    writer.finish();
  }
  const Json config = {
      {"model",
       {{"model_type", "gla"},
        {"vocab_size", 61},
        {"hidden_size", 16},
        {"num_hidden_layers", 2},
        {"num_heads", 2},
        {"intermediate_size", 24}}},
      {"data",
       {{"train", (data / "train_*.bin").string()}, {"validation", (data / "validation_*.bin").string()}}},
      {"optimizer", {{"lr", 0.01}}},
      {"schedule", {{"warmup_steps", 5}}},
      {"train",
       {{"steps", 100},
        {"sequence_length", 16},
        {"micro_batch_sequences", 2},
        {"global_batch_tokens", 64},
        {"validate_every", 25},
        {"validate_sequences", 8},
        {"threads", 1},
        {"output_dir", (directory_ / "run").string()}}},
      {"checkpoint", {{"every", 50}}},
      {"log", {{"progress", "off"}}}};
  write_file_atomically(config_path(), dump_json(config), ErrorKind::kInternal);
}

void TrainingRun::set(const std::string& path, const std::string& value) {
  Json config = read_json_file(config_path(), ErrorKind::kInternal);
  apply_override(config, path + "=" + value);
  write_file_atomically(config_path(), dump_json(config), ErrorKind::kInternal);
}

Outcome TrainingRun::train(const std::vector<std::string>& more,
                           const ChildProcess::Environment& environment) const {
  std::vector<std::string> arguments = {"--config", config_path()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program("train", arguments, environment);
}

std::vector<std::string> TrainingRun::hashes(const std::string& output, int64_t step) const {
  const auto run = directory_ / output;
  const auto checkpoint = run / "checkpoints" / fmt::format("step_{:08d}", step);
  std::vector<std::string> all;
  for (const auto& path : {checkpoint / "model.safetensors", checkpoint / "trainer" / "optimizer.safetensors",
                           run / "log.jsonl"}) {
    all.push_back(sha256_file(path, ErrorKind::kInternal));
  }
  return all;
}

}  // namespace sluice::test
