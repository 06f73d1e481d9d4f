// Training on a GPU: the same bits from run to run, with and without a graph, and after resuming; the CPU's
// losses.
#include "train/trainer.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "data/shard_writer.h"
#include "optim/parameter_arena.h"
#include "support/catch.h"
#include "support/random_tensor.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"
#include "train/run_checkpoint.h"

using namespace sluice;

namespace {

constexpr int64_t kVocabulary = 61;

// Widths that tensor cores take: heads of 32 and 64.
ModelConfig model_of(const std::string& json) {
  Json config = parse_json(json, "test", ErrorKind::kUsage);
  config["vocab_size"] = kVocabulary;
  config["hidden_size"] = 128;
  config["num_hidden_layers"] = 2;
  config["initializer_range"] = 0.05;
  Problems problems;
  ModelConfig result = read_model_config(config, "model", UnknownKeys::kRefuse, problems);
  problems.throw_if_any("test", ErrorKind::kUsage);
  return result;
}

struct Setup {
  explicit Setup(const std::string& model_json, const std::string& device, const std::string& dtype)
      : model(model_of(model_json)) {
    ShardWriter writer(directory / "data", "train", kVocabulary, 30000);
    writer.append(test::random_tokens(30000, kVocabulary, 11));
    writer.finish();
    run.name = "test";
    run.model = to_hugging_face_json(model, "float32");
    run.data.train = {{(directory / "data").string(), 1.0}};
    run.train.device = device;
    run.train.dtype = dtype;
    run.train.steps = 40;
    run.train.sequence_length = 100;
    run.train.micro_batch_sequences = 4;
    run.train.global_batch_tokens = 800;
    run.train.output_dir = (directory / "run").string();
    run.optimizer.lr = 3e-4;  // with larger ones rounding errors grow from step to step
  }

  test::TemporaryDirectory directory;
  ModelConfig model;
  RunConfig run;
};

struct Outcome {
  std::vector<double> losses;
  std::vector<float> weights;
};

Outcome outcome_of(Trainer& trainer, int64_t steps) {
  Outcome outcome;
  for (int64_t i = 0; i < steps; ++i) outcome.losses.push_back(trainer.step().loss);
  outcome.weights = trainer.arena().master_weights().to_vector<float>();
  return outcome;
}

Outcome train(const Setup& setup, int64_t steps) {
  Trainer trainer(setup.run, setup.model);
  return outcome_of(trainer, steps);
}

const char* const kModels[] = {
    R"({"model_type": "gla", "num_heads": 2})",
    R"({"model_type": "gla", "num_heads": 2, "use_short_conv": true, "num_kv_heads": 1})",
    R"({"model_type": "transformer", "num_heads": 2})",
    R"({"model_type": "gla", "num_heads": 2, "attn": {"layers": [1], "num_heads": 2, "window_size": 30}})"};

}  // namespace

TEST_CASE("two runs, a run without a graph and recomputing runs give the same bits", "[long]") {
  for (const char* model : kModels) {
    for (const char* dtype : {"float32", "bfloat16"}) {
      INFO(model << " in " << dtype);
      Setup setup(model, "cuda", dtype);
      const Outcome first = train(setup, 6);
      // Compared in parentheses: nobody wants to see the numbers.
      const auto same = [&] { return train(setup, 6).weights == first.weights; };
      CHECK(std::isfinite(first.losses.back()));
      CHECK((same()));
      setup.run.train.cuda_graph = false;
      CHECK((same()));
      setup.run.train.recompute = Recompute::kLayer;
      setup.run.train.cuda_graph = true;
      CHECK((same()));
      setup.run.train.recompute = Recompute::kSelective;
      CHECK((same()));
    }
  }
}

TEST_CASE("a resumed run goes on with the same bits", "[long]") {
  Setup setup(kModels[0], "cuda", "bfloat16");
  const Outcome whole = train(setup, 20);
  {
    RunCheckpoints checkpoints(setup.run, setup.model);
    Trainer trainer(setup.run, setup.model);
    outcome_of(trainer, 9);
    checkpoints.save(trainer, trainer.state());
  }
  RunCheckpoints checkpoints(setup.run, setup.model);
  Trainer trainer(setup.run, setup.model);
  checkpoints.start(trainer, "auto");
  CHECK(trainer.state().step == 9);
  CHECK((outcome_of(trainer, 11).weights == whole.weights));
}

// Where q . k of a sequence's first token is near 0, the norm behind the attention multiplies rounding errors
// by its inverse: gradients are less exact than the operations they come from, and in bf16 say nothing.
constexpr double kGradientTolerance = 1e-4;

// Loss and each parameter's gradient (relative RMS) of the first step against the CPU in double.
void check_gradients_of(Setup& setup) {
  setup.run.train.device = "cpu";
  setup.run.train.dtype = "float64";
  Trainer reference(setup.run, setup.model);
  const double loss = reference.step().loss;
  setup.run.train.device = "cuda";
  for (const char* dtype : {"bfloat16", "float32"}) {
    setup.run.train.dtype = dtype;
    Trainer trainer(setup.run, setup.model);
    const bool in_bf16 = trainer.model().dtype() == DType::kBF16;
    CHECK(std::abs(trainer.step().loss - loss) < (in_bf16 ? 5e-3 : 1e-6));
    if (in_bf16) continue;
    const auto parameters = trainer.model().parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const auto expected = reference.arena().gradient(i).to_vector<double>();
      const auto actual = trainer.arena().gradient(i).to_vector<float>();
      double difference = 0, scale = 0;
      for (size_t j = 0; j < expected.size(); ++j) {
        difference += (actual[j] - expected[j]) * (actual[j] - expected[j]);
        scale += expected[j] * expected[j];
      }
      INFO(dtype << " " << parameters[i]->name());
      CHECK(std::sqrt(difference / scale) < kGradientTolerance);
    }
  }
}

TEST_CASE("gradients of a step are the CPU's") {
  for (const char* model : kModels) {
    INFO(model);
    Setup setup(model, "cuda", "float32");
    check_gradients_of(setup);
  }
}

TEST_CASE("gradients through segments with a carried state, and past document starts, are the CPU's") {
  for (const char* model : {kModels[0], kModels[1]}) {
    INFO(model);
    Setup setup(model, "cuda", "float32");
    setup.run.train.segments = 4;
    check_gradients_of(setup);
    setup.run.data.reset_state_at_document = true;
    setup.run.data.document_token = 7;
    check_gradients_of(setup);
  }
}

TEST_CASE("losses on the GPU are the CPU's over some steps", "[long]") {
  for (const char* model : kModels) {
    INFO(model);
    const Outcome cpu = train(Setup(model, "cpu", "float32"), 10);
    const Outcome gpu = train(Setup(model, "cuda", "float32"), 10);
    const Outcome bf16 = train(Setup(model, "cuda", "bfloat16"), 10);
    for (size_t i = 0; i < 10; ++i) {
      INFO("step " << i + 1 << ": " << cpu.losses[i] << ", " << gpu.losses[i] << ", " << bf16.losses[i]);
      CHECK(std::abs(cpu.losses[i] - gpu.losses[i]) < 1e-4);
      CHECK(std::abs(cpu.losses[i] - bf16.losses[i]) < 0.01);
    }
  }
}

TEST_CASE("a gradient that is not finite skips the step on the device") {
  ::setenv("SLUICE_FAULT", "nan@3", 1);
  const Setup setup(kModels[0], "cuda", "bfloat16");
  Trainer trainer(setup.run, setup.model);
  ::unsetenv("SLUICE_FAULT");
  outcome_of(trainer, 2);
  const auto before = trainer.arena().master_weights().to_vector<float>();
  const StepResult result = trainer.step();
  CHECK(result.skipped);
  CHECK((trainer.arena().master_weights().to_vector<float>() == before));
  CHECK(trainer.state().updates == 2);
  CHECK_FALSE(trainer.step().skipped);
  CHECK(trainer.weights_are_finite());
}

TEST_CASE("ranks that share the master weights put the exact ones together") {
  // "b" lies across the slices of several ranks.
  const std::vector<ArenaEntry> entries = {
      {"a", {700, 50}, true, false}, {"b", {1234}, false, true}, {"c", {90}, true, true}};
  const ParameterArena whole(entries, DType::kBF16, Device::kCuda);
  whole.master_weights().copy_from(test::random_normal({whole.elements()}, DType::kF32, 1).to(Device::kCuda));
  for (const int ranks : {2, 3}) {
    std::vector<double> sum;
    for (int rank = 0; rank < ranks; ++rank) {
      const ParameterArena part(entries, DType::kBF16, Device::kCuda, {ranks, rank});
      const Tensor masters = Tensor::zeros({part.elements()}, DType::kF32, Device::kCuda);
      for (size_t i = 0; i < entries.size(); ++i) part.view(masters, i).copy_from(whole.master_weight(i));
      part.master_weights()
          .view({part.buckets(), part.slice_elements()})
          .copy_from(part.slices(masters, rank));
      part.put_own_exact_weights();
      const auto values = part.exact_weights().to(Device::kCpu).to_vector<float>();
      sum.resize(values.size());
      for (size_t i = 0; i < values.size(); ++i) sum[i] += values[i];
      if (rank + 1 < ranks) continue;
      part.exact_weights().copy_from(
          Tensor::from<double>({static_cast<int64_t>(sum.size())}, sum).to(DType::kF32).to(Device::kCuda));
      for (size_t i = 1; i < entries.size(); ++i) {
        CHECK(part.weight(i).to(Device::kCpu).to_vector<float>() ==
              whole.weight(i).to(Device::kCpu).to_vector<float>());
      }
    }
  }
}
