// The models on a GPU against flash-linear-attention in float64: every golden case in f32 and bf16.
#include "golden_case.h"

#include <fmt/core.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/backward.h"
#include "config/json.h"
#include "model/language_model.h"
#include "model/model_weights.h"
#include "support/catch.h"
#include "support/compare.h"

using namespace sluice;
namespace fs = std::filesystem;

namespace {

// Squares of the differences and of the reference, summed over tensors.
struct RelativeError {
  double difference = 0, reference = 0;

  void add(const Tensor& actual, const Tensor& expected) {
    const auto a = actual.to(Device::kCpu).to(DType::kF64).to_vector<double>();
    const auto e = expected.to_vector<double>();
    REQUIRE(a.size() == e.size());
    for (size_t i = 0; i < a.size(); ++i) {
      difference += (a[i] - e[i]) * (a[i] - e[i]);
      reference += e[i] * e[i];
    }
  }
  double rms() const { return std::sqrt(difference / reference); }
};

struct Errors {
  RelativeError logits, gradients;
  double worst_gradient = 0;
  std::string worst_name;
};

Errors errors_of(const fs::path& folder, DType dtype) {
  const test::Golden golden(folder);
  LanguageModel model(golden.config);
  nn::allocate(model.parameters(), dtype, Device::kCuda, true);
  load_weights(model, golden.weights);
  const auto layout = ops::SequenceLayout::uniform(golden.rows(), golden.length());
  const int64_t count = golden.rows() * golden.length();
  const Variable hidden = model.forward(golden.tokens.view({count}).to(Device::kCuda), layout, nullptr);
  Errors errors;
  errors.logits.add(model.logits(hidden), golden.expected.load("logits", DType::kF64));
  double labels = 0;
  for (const int32_t label : golden.labels.to_vector<int32_t>()) labels += label == -100 ? 0 : 1;
  const Variable loss = model.loss(hidden, golden.labels.view({count}).to(Device::kCuda), {-100, labels});
  backward(loss);
  for (const NamedTensor& gradient :
       named_parts(model, [](const nn::Parameter& parameter) { return parameter.variable().gradient(); })) {
    const Tensor expected = golden.expected.load("grad." + gradient.name, DType::kF64);
    RelativeError own;
    own.add(gradient.tensor, expected);
    errors.gradients.add(gradient.tensor, expected);
    if (!(own.rms() <= errors.worst_gradient)) {
      errors.worst_gradient = own.rms();
      errors.worst_name = gradient.name;
    }
  }
  return errors;
}

}  // namespace

TEST_CASE("golden cases in f32: logits and every gradient to 5e-6") {
  for (const fs::path& folder : test::golden_cases()) {
    DYNAMIC_SECTION(folder.filename().string()) {
      const Errors errors = errors_of(folder, DType::kF32);
      fmt::print("{:20} f32   logits {:.2e}  gradients {:.2e}  worst {:.2e} {}\n", folder.filename().string(),
                 errors.logits.rms(), errors.gradients.rms(), errors.worst_gradient, errors.worst_name);
      CHECK(errors.logits.rms() <= 5e-6);
      CHECK(errors.worst_gradient <= 5e-6);
    }
  }
}

TEST_CASE("golden cases in bf16: no further off than flash-linear-attention in bf16") {
  for (const fs::path& folder : test::golden_cases()) {
    DYNAMIC_SECTION(folder.filename().string()) {
      const Json json = read_json_file(folder / "golden.json", ErrorKind::kData);
      const auto& theirs = json.at("fla_gpu").at("bf16");
      const double logits = theirs.at("logits_rms_rel"), gradients = theirs.at("grads_rms_rel");
      const Errors errors = errors_of(folder, DType::kBF16);
      fmt::print("{:20} bf16  logits {:.2e} (FLA {:.2e})  gradients {:.2e} (FLA {:.2e})  worst {:.2e} {}\n",
                 folder.filename().string(), errors.logits.rms(), logits, errors.gradients.rms(), gradients,
                 errors.worst_gradient, errors.worst_name);
      CHECK(errors.logits.rms() <= logits);
      CHECK(errors.gradients.rms() <= gradients);
    }
  }
}
