#include "autograd/checkpoint.h"

#include "autograd/backward.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "support/catch.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

TEST_CASE("recomputation gives the same bits, for inputs and captured parameters") {
  const Tensor x = random_normal({6, 8}, DType::kF32, 1), cotangent = random_normal({6, 8}, DType::kF32, 2);
  const Tensor weight = random_normal({8, 8}, DType::kF32, 3);
  std::vector<std::vector<float>> results[2];
  for (const bool recompute : {false, true}) {
    const Variable input(x, true), w(weight, true);
    const RecomputableFunction layer = [&w](const std::vector<Variable>& in) {
      return std::vector<Variable>{ops::rms_norm(ops::linear(in[0], w), Variable(), 1e-6)};
    };
    const Variable y = recompute ? checkpoint(layer, {input})[0] : layer({input})[0];
    backward({y}, {cotangent});
    for (const Tensor& t : {y.value(), input.gradient(), w.gradient()}) {
      results[recompute].push_back(t.to_vector<float>());
    }
  }
  CHECK(results[0] == results[1]);
}
