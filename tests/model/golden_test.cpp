// The models against flash-linear-attention in float64: every case of tests/golden, or of SLUICE_GOLDEN_DIR.
#include <fmt/core.h>

#include <filesystem>
#include <set>

#include "autograd/backward.h"
#include "golden_case.h"
#include "mixers/gated_linear_attention.h"
#include "model/language_model.h"
#include "model/model_weights.h"
#include "model/weight_directory.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/temporary_directory.h"

using namespace sluice;
using test::Golden;
using test::golden_cases;
namespace fs = std::filesystem;

namespace {

// Relative RMS error against the goldens, which are stored in float32.
constexpr double kToleranceF32 = 5e-6;
constexpr double kToleranceF64 = 3e-7;
// No element may be further off than this, relative to the larger of it and the RMS.
constexpr double kElementwise = 100;

std::unique_ptr<LanguageModel> make_model(const Golden& golden, DType dtype, bool trained) {
  auto model = std::make_unique<LanguageModel>(golden.config);
  nn::allocate(model->parameters(), dtype, Device::kCpu, trained);
  load_weights(*model, golden.weights);
  return model;
}

void check(const std::string& what, const Tensor& actual, const Tensor& expected, double tolerance) {
  const auto result = test::compare(actual, expected, {tolerance, kElementwise * tolerance});
  INFO(what << ": " << result.message);
  CHECK(result.pass);
}

void check_case(const fs::path& folder, DType dtype, double tolerance) {
  const Golden golden(folder);
  const auto model = make_model(golden, dtype, true);
  const auto layout = ops::SequenceLayout::uniform(golden.rows(), golden.length());
  const int64_t count = golden.rows() * golden.length();
  const Variable hidden = model->forward(golden.tokens.view({count}), layout, nullptr);
  const Tensor logits = model->logits(hidden);
  check("logits", logits.view({golden.rows(), golden.length(), golden.config.vocab_size}),
        golden.expected.load("logits", DType::kF64), tolerance);
  const Variable loss = model->loss(hidden, golden.labels.view({count}));
  check("loss", loss.value().view({}), golden.expected.load("loss", DType::kF64), tolerance);
  backward(loss);
  std::set<std::string> names;
  for (const NamedTensor& gradient :
       named_parts(*model, [](const nn::Parameter& parameter) { return parameter.variable().gradient(); })) {
    names.insert(gradient.name);
    check(gradient.name, gradient.tensor, golden.expected.load("grad." + gradient.name, DType::kF64),
          tolerance);
  }
  const auto expected_names = golden.weights.names();
  CHECK(names == std::set<std::string>(expected_names.begin(), expected_names.end()));
}

// The cached continuation: `first` tokens, then the rest from the state they left.
void check_cached(const fs::path& folder, DType dtype, double tolerance) {
  const Golden golden(folder);
  if (!golden.expected.has("logits_cached")) return;
  const NoGradScope no_grad;
  const auto model = make_model(golden, dtype, false);
  constexpr int64_t kFirst = 40;
  ModelState state = model->make_state(golden.rows());
  const Tensor expected = golden.expected.load("logits_cached", DType::kF64);
  int64_t done = 0;
  for (const int64_t end : {kFirst, golden.length()}) {
    const Tensor part = golden.tokens.narrow(1, done, end - done).clone();
    const auto layout = ops::SequenceLayout::uniform(golden.rows(), end - done);
    const Variable hidden = model->forward(part.view({part.numel()}), layout, &state);
    check(fmt::format("cached logits {} to {}", done, end),
          model->logits(hidden).view({golden.rows(), end - done, golden.config.vocab_size}),
          expected.narrow(1, done, end - done), tolerance);
    for (size_t layer = 0; layer < state.layers.size(); ++layer) {
      const auto* recurrent = dynamic_cast<const GatedLinearAttentionState*>(state.layers[layer].get());
      const std::string name = fmt::format("cache.after{}.layers.{}.recurrent_state", end, layer);
      if (recurrent == nullptr || !golden.expected.has(name)) continue;
      // The file holds [B, H, V, K], the state is [B, H, K, V].
      const Tensor stored = golden.expected.load(name, DType::kF64);
      const Tensor& ours = recurrent->recurrent.value();
      const Tensor transposed = Tensor::empty(stored.shape(), ours.dtype(), Device::kCpu);
      for (int64_t v = 0; v < ours.size(3); ++v) {
        for (int64_t k = 0; k < ours.size(2); ++k) {
          transposed.narrow(2, v, 1).narrow(3, k, 1).copy_from(ours.narrow(2, k, 1).narrow(3, v, 1));
        }
      }
      check(name, transposed, stored, tolerance);
    }
    done = end;
  }
}

}  // namespace

TEST_CASE("golden cases: logits, loss and every gradient in f64") {
  const auto cases = golden_cases();
  for (const fs::path& folder : cases) {
    DYNAMIC_SECTION(folder.filename().string()) { check_case(folder, DType::kF64, kToleranceF64); }
  }
}

TEST_CASE("golden cases: logits, loss and every gradient in f32") {
  for (const fs::path& folder : golden_cases()) {
    DYNAMIC_SECTION(folder.filename().string()) { check_case(folder, DType::kF32, kToleranceF32); }
  }
}

TEST_CASE("golden cases: a cached continuation") {
  for (const fs::path& folder : golden_cases()) {
    DYNAMIC_SECTION(folder.filename().string()) {
      check_cached(folder, DType::kF64, kToleranceF64);
      check_cached(folder, DType::kF32, kToleranceF32);
    }
  }
}

TEST_CASE("golden cases: written back bit for bit under the same names") {
  for (const fs::path& folder : golden_cases()) {
    DYNAMIC_SECTION(folder.filename().string()) {
      const Golden golden(folder);
      const auto model = make_model(golden, DType::kF32, false);
      const test::TemporaryDirectory directory;
      write_sharded(directory.path(), named_weights(*model), int64_t{1} << 40);
      const WeightDirectory written(directory.path());
      CHECK(written.names() == golden.weights.names());
      for (const std::string& name : golden.weights.names()) {
        INFO(name);
        CHECK(written.shape(name) == golden.weights.shape(name));
        CHECK(written.load(name, DType::kF32).to_vector<float>() ==
              golden.weights.load(name, DType::kF32).to_vector<float>());
      }
    }
  }
}

TEST_CASE("golden cases: there are some, and this is how many") {
  const auto cases = golden_cases();
  std::string names;
  for (const fs::path& folder : cases) names.append(" ").append(folder.filename().string());
  fmt::print("{} golden cases:{}\n", cases.size(), names);
  CHECK(cases.size() >= 1);
}
