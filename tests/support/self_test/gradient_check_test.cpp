#include "support/gradient_check.h"

#include "autograd/backward.h"
#include "autograd/tape.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"

using namespace sluice;

// y = x^2 elementwise; the backward is wrong by `error`.
static Variable square(const Variable& x, double error) {
  const Tensor y = x.value().clone();
  double* values = y.data<double>();
  for (int64_t i = 0; i < y.numel(); ++i) values[i] *= values[i];
  return Tape::record_one("square", {x}, y, [x = x.value(), error](BackwardContext& context) {
    const Tensor dx = context.output_gradient(0).clone();
    for (int64_t i = 0; i < dx.numel(); ++i) dx.data<double>()[i] *= (2 + error) * x.data<double>()[i];
    context.add(0, dx);
  });
}

TEST_CASE("a right gradient passes by elements and along a direction") {
  const auto function = [](const std::vector<Variable>& in) {
    return std::vector<Variable>{square(in[0], 0)};
  };
  test::check_gradients(function, {test::random_normal({3, 4}, DType::kF64, 1)});
  test::check_directional_gradient(function, {test::random_normal({3, 4}, DType::kF64, 1)});
}

TEST_CASE("a gradient wrong by one part in a thousand fails", "[!shouldfail]") {
  const auto function = [](const std::vector<Variable>& in) {
    return std::vector<Variable>{square(in[0], 2e-3)};
  };
  test::check_gradients(function, {test::random_normal({3, 4}, DType::kF64, 1)});
}
