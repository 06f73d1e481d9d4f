// The training step: what goes into the gradient, what a step changes, and what resuming restores.
#include "train/trainer.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/shard_writer.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"
#include "train/run_checkpoint.h"
#include "train/run_plan.h"

using namespace sluice;

namespace {

constexpr int64_t kVocabulary = 61;

// A run over a shard of random tokens in a directory of its own.
struct Setup {
  explicit Setup(const std::string& model_json = test::kTinyGla, int64_t tokens = 2000)
      : model(test::tiny_config(model_json)) {
    ShardWriter writer(directory / "data", "train", kVocabulary, tokens);
    writer.append(test::random_tokens(tokens, kVocabulary, 11));
    writer.finish();
    run.name = "test";
    run.model = to_hugging_face_json(model, "float32");
    run.data.train = {{(directory / "data").string(), 1.0}};
    run.train.device = "cpu";
    run.train.steps = 20;
    run.train.sequence_length = 16;
    run.train.micro_batch_sequences = 4;
    run.train.output_dir = (directory / "run").string();
    run.optimizer.lr = 1e-2;
  }

  test::TemporaryDirectory directory;
  ModelConfig model;
  RunConfig run;
};

std::vector<double> weights_of(const Trainer& trainer) {
  return trainer.arena().weights().to(DType::kF64).to_vector<double>();
}

// Sets SLUICE_FAULT while it lives.
class Fault {
 public:
  explicit Fault(const char* text) { ::setenv("SLUICE_FAULT", text, 1); }
  ~Fault() { ::unsetenv("SLUICE_FAULT"); }
};

}  // namespace

TEST_CASE("accumulated micro batches equal one large batch") {
  Setup setup;
  setup.run.train.dtype = "float64";
  std::vector<double> weights[2], losses[2];
  for (const int split : {0, 1}) {
    setup.run.train.micro_batch_sequences = split ? 2 : 8;
    setup.run.train.global_batch_tokens = 8 * 16;
    Trainer trainer(setup.run, setup.model);
    for (int step = 0; step < 5; ++step) losses[split].push_back(trainer.step().loss);
    weights[split] = weights_of(trainer);
  }
  const auto as_tensor = [](const std::vector<double>& v) {
    return Tensor::from<double>({static_cast<int64_t>(v.size())}, v);
  };
  CHECK_CLOSE(as_tensor(losses[1]), as_tensor(losses[0]), 1e-12, 1e-11);
  CHECK_CLOSE(as_tensor(weights[1]), as_tensor(weights[0]), 1e-9, 1e-6);
}

TEST_CASE("a step sees nothing of the gradients before it") {
  Setup setup;
  for (const int64_t accumulation : {1, 2}) {
    setup.run.train.global_batch_tokens = accumulation * setup.run.train.micro_batch_sequences * 16;
    std::vector<double> weights[2];
    for (const bool soiled : {false, true}) {
      Trainer trainer(setup.run, setup.model);
      if (soiled) {
        const Tensor gradients = trainer.arena().gradients();
        gradients.copy_from(Tensor::from<float>(
            gradients.shape(), std::vector<float>(static_cast<size_t>(gradients.numel()), 3.0f)));
        for (size_t i = 0; i < trainer.arena().ranges().size(); ++i) {
          const auto& range = trainer.arena().ranges()[i];
          const int64_t next = i == 0 ? gradients.numel() : trainer.arena().ranges()[i - 1].begin;
          gradients.narrow(0, range.end, next - range.end).fill_zero();  // padding stays zero
        }
      }
      trainer.step();
      weights[soiled] = weights_of(trainer);
    }
    CHECK(weights[0] == weights[1]);
  }
}

TEST_CASE("layer recomputation trains to the same bits") {
  Setup setup;
  std::vector<double> weights[2];
  for (const int recompute : {0, 1}) {
    setup.run.train.recompute = recompute ? Recompute::kLayer : Recompute::kNone;
    Trainer trainer(setup.run, setup.model);
    for (int step = 0; step < 3; ++step) trainer.step();
    weights[recompute] = weights_of(trainer);
  }
  CHECK(weights[0] == weights[1]);
}

TEST_CASE("segments carry the state: the loss is that of the whole sequence, the gradient is cut") {
  Setup setup(test::kTinyGlaWithConvolution);
  setup.run.train.dtype = "float64";
  double loss[2], norm[2];
  for (const int segments : {1, 4}) {
    setup.run.train.segments = segments;
    Trainer trainer(setup.run, setup.model);
    const StepResult result = trainer.step();
    loss[segments == 4] = result.loss;
    norm[segments == 4] = result.gradient_norm;
  }
  CHECK(std::abs(loss[0] - loss[1]) < 1e-12);
  CHECK(std::abs(norm[0] - norm[1]) > 1e-6);
}

TEST_CASE("segments over softmax attention are refused, with the way out") {
  Setup setup(test::kTinyTransformer);
  setup.run.train.segments = 2;
  CHECK_THROWS_WITH(Trainer(setup.run, setup.model), test::contains("train.segments is 2"));
}

TEST_CASE("a step that is not finite changes nothing and is counted") {
  Setup setup;
  const Fault fault("nan@2:2");
  Trainer trainer(setup.run, setup.model);
  trainer.step();
  const auto weights = weights_of(trainer);
  const auto moments = trainer.arena().first_moments().to_vector<float>();
  for (int in_a_row = 1; in_a_row <= 2; ++in_a_row) {
    const StepResult result = trainer.step();
    CHECK(result.skipped);
    CHECK(std::isnan(result.gradient_norm));
    CHECK(trainer.state().skipped_in_a_row == in_a_row);
  }
  CHECK(weights_of(trainer) == weights);
  CHECK(trainer.arena().first_moments().to_vector<float>() == moments);
  CHECK(trainer.state().updates == 1);
  CHECK_FALSE(trainer.step().skipped);
  CHECK(trainer.state().skipped_in_a_row == 0);
  CHECK(trainer.state().skipped == 2);
}

TEST_CASE("clipping bounds the update, the norm is reported unclipped") {
  Setup setup;
  setup.run.optimizer.grad_clip = 1e-6;
  Trainer trainer(setup.run, setup.model);
  CHECK(trainer.step().gradient_norm > 1e-3);
  double squares = 0;
  for (const float m : trainer.arena().first_moments().to_vector<float>())
    squares += static_cast<double>(m) * m;
  CHECK(std::sqrt(squares) < 0.11e-6);
}

TEST_CASE("resuming restores weights, moments, data and counters to the bit") {
  for (const char* model : {test::kTinyGla, test::kTinyTransformer}) {
    Setup setup(model);
    setup.run.train.global_batch_tokens = 8 * 16;
    Trainer straight(setup.run, setup.model);
    std::vector<double> straight_losses, resumed_losses;
    for (int step = 0; step < 8; ++step) straight_losses.push_back(straight.step().loss);
    {
      Trainer first(setup.run, setup.model);
      for (int step = 0; step < 4; ++step) resumed_losses.push_back(first.step().loss);
      RunCheckpoints(setup.run, setup.model).save(first, first.state());
    }
    Trainer second(setup.run, setup.model);
    RunCheckpoints(setup.run, setup.model).start(second, "auto");
    CHECK(second.state().step == 4);
    for (int step = 0; step < 4; ++step) resumed_losses.push_back(second.step().loss);
    CHECK(resumed_losses == straight_losses);
    CHECK(weights_of(second) == weights_of(straight));
    CHECK(second.arena().first_moments().to_vector<float>() ==
          straight.arena().first_moments().to_vector<float>());
    CHECK(second.arena().second_moments().to_vector<float>() ==
          straight.arena().second_moments().to_vector<float>());
  }
}

TEST_CASE("a checkpoint of another shape is refused before anything is trained") {
  Setup setup;
  Trainer trainer(setup.run, setup.model);
  RunCheckpoints(setup.run, setup.model).save(trainer, trainer.state());
  ModelConfig wider = setup.model;
  wider.intermediate_size = 32;
  Trainer other(setup.run, wider);
  try {
    RunCheckpoints(setup.run, wider).start(other, "auto");
    FAIL("resumed from a checkpoint of another shape");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    CHECK_THAT(std::string(error.what()), test::contains("the model needs"));
  }
  CHECK_THROWS_WITH(RunCheckpoints(setup.run, setup.model).start(trainer, "never"),
                    test::contains("--resume never"));
}

TEST_CASE("a run starts from another model's weights") {
  Setup setup;
  const auto other = test::tiny_model(test::kTinyGla, DType::kF32, 77);
  std::filesystem::create_directories(setup.directory / "other");
  test::write_model(setup.directory / "other", *other);
  setup.run.train.init_from = (setup.directory / "other").string();
  Trainer trainer(setup.run, setup.model);
  RunCheckpoints(setup.run, setup.model).start(trainer, "auto");
  CHECK(trainer.model().parameters()[0]->variable().value().to_vector<float>() ==
        other->parameters()[0]->variable().value().to_vector<float>());
  CHECK(trainer.state().step == 0);
}

TEST_CASE("a model overfits one batch to below 0.05") {
  Setup setup(test::kTinyGla, 4 * 16 + 1);
  setup.run.train.steps = 400;
  setup.run.optimizer.lr = 2e-2;
  setup.run.optimizer.weight_decay = 0;
  Trainer trainer(setup.run, setup.model);
  double loss = 1e9;
  for (int step = 0; step < 400 && loss > 0.05; ++step) loss = trainer.step().loss;
  CHECK(loss < 0.05);
}

TEST_CASE("documents that reset the state change the loss") {
  Setup setup;
  double loss[2];
  for (const bool reset : {false, true}) {
    setup.run.data.reset_state_at_document = reset;
    setup.run.data.document_token = 7;
    setup.run.train.micro_batch_sequences = 64;  // tokens enough to hold some documents
    Trainer trainer(setup.run, setup.model);
    loss[reset] = trainer.step().loss;
  }
  CHECK(loss[0] != loss[1]);
}

TEST_CASE("the plan of a run counts what the run does") {
  Setup setup;
  setup.run.train.global_batch_tokens = 8 * 16;
  const RunPlan plan = plan_run(setup.run, setup.model);
  Trainer trainer(setup.run, setup.model);
  CHECK(plan.parameters == trainer.model().parameter_count());
  CHECK(plan.accumulation == 2);
  CHECK(plan.tokens_per_step == trainer.step().tokens);
  CHECK(plan.optimizer_bytes == 2 * plan.weight_bytes);
  CHECK(plan.flops_per_token == trainer.flops_per_token());
}

TEST_CASE("what is computed again instead of kept changes no bit") {
  for (const auto& model : {test::kTinyGla, test::kTinyTransformer}) {
    std::vector<std::vector<double>> weights;
    std::vector<int64_t> peaks;
    for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kLayer}) {
      Setup setup(model);
      setup.run.train.global_batch_tokens =
          2 * 4 * 16;  // the second micro batch adds to the first's gradient
      setup.run.train.recompute = recompute;
      Trainer trainer(setup.run, setup.model);
      allocator_of(Device::kCpu).reset_peak();
      for (int i = 0; i < 3; ++i) trainer.step();
      weights.push_back(weights_of(trainer));
      peaks.push_back(
          allocator_of(Device::kCpu).statistics().peak_of[static_cast<size_t>(MemoryClass::kActivations)]);
    }
    CHECK(weights[1] == weights[0]);
    CHECK(weights[2] == weights[0]);
    CHECK(peaks[1] < peaks[0]);
  }
}

TEST_CASE("what the CPU lacks is refused by name") {
  Setup setup;
  setup.run.train.dtype = "bfloat16";
  CHECK_THROWS_WITH(Trainer(setup.run, setup.model), test::contains("needs a GPU"));
}
