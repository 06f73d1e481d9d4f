// Defines a model, trains it on a pattern and saves it, with the library alone.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "config/run_config.h"
#include "data/shard_writer.h"
#include "model/model_weights.h"
#include "model/safetensors.h"
#include "train/trainer.h"

using namespace sluice;

// Pairs (x, x + 8) with x drawn from 0 to 7: half of the tokens can be known.
std::vector<int32_t> pairs(int64_t tokens) {
  std::vector<int32_t> values;
  uint32_t state = 1;
  while (static_cast<int64_t>(values.size()) < tokens) {
    state = state * 1664525u + 1013904223u;
    values.push_back(static_cast<int32_t>(state >> 29));
    values.push_back(values.back() + 8);
  }
  return values;
}

int main(int argc, char** argv) {
  const std::filesystem::path directory = argc > 1 ? argv[1] : "example";
  try {
    ShardWriter writer(directory / "data", "train", 16, 100000);
    writer.append(pairs(40000));
    writer.finish();

    Problems problems;
    const Json json = {{"model_type", "gla"},    {"vocab_size", 16}, {"hidden_size", 64},
                       {"num_hidden_layers", 2}, {"num_heads", 2},   {"intermediate_size", 128}};
    const ModelConfig model = read_model_config(json, "model", UnknownKeys::kRefuse, problems);
    problems.throw_if_any("the model", ErrorKind::kUsage);

    RunConfig run;
    run.data.train = {{(directory / "data").string(), 1.0}};
    run.train.steps = 100;
    run.train.sequence_length = 64;
    run.train.micro_batch_sequences = 8;
    run.optimizer.lr = 1e-2;
    Trainer trainer(run, model);
    for (int64_t i = 1; i <= run.train.steps; ++i) {
      const StepResult step = trainer.step();
      if (i % 50 == 0) std::printf("step %ld  loss %.4f\n", static_cast<long>(i), step.loss);
    }
    write_safetensors(directory / "model.safetensors", named_weights(trainer.model()));
    std::printf("saved %s\n", (directory / "model.safetensors").c_str());
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  return 0;
}
