#include "ops/linear.h"

#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

TEST_CASE("linear: Jacobian with bias, over batched and strided input") {
  test::check_gradients(
      [](const std::vector<Variable>& in) { return std::vector<Variable>{ops::linear(in[0], in[1], in[2])}; },
      {random_normal({2, 3, 5}, DType::kF64, 1), random_normal({4, 5}, DType::kF64, 2),
       random_normal({4}, DType::kF64, 3)});
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {3, 5});
        return std::vector<Variable>{ops::linear(parts[0], in[1]), ops::linear(parts[1], in[2])};
      },
      {random_normal({6, 8}, DType::kF64, 1), random_normal({4, 3}, DType::kF64, 2),
       random_normal({1, 5}, DType::kF64, 3)});
}

TEST_CASE("linear: f32 against f64 at sizes around the edges of vector units") {
  for (const int64_t size : {1, 15, 16, 17, 31, 33, 257}) {
    CAPTURE(size);
    const Tensor x = random_normal({size, size}, DType::kF64, 1),
                 w = random_normal({size + 1, size}, DType::kF64, 2);
    const Tensor expected = ops::linear(Variable(x), Variable(w)).value();
    const Tensor actual = ops::linear(Variable(x.to(DType::kF32)), Variable(w.to(DType::kF32))).value();
    CHECK_CLOSE(actual, expected, 1e-6, 1e-4);
  }
}

TEST_CASE("project is linear without a gradient, and refuses shapes that do not fit") {
  const Tensor x = random_normal({5, 7}, DType::kF64, 1), w = random_normal({3, 7}, DType::kF64, 2);
  CHECK(ops::project(x, w).to_vector<double>() ==
        ops::linear(Variable(x), Variable(w)).value().to_vector<double>());
  CHECK_THROWS_WITH(ops::project(x, w.columns(0, 6)),
                    test::contains("[project] expected x of shape [..., 6]"));
}

TEST_CASE("linear refuses shapes that do not fit") {
  CHECK_THROWS_WITH(ops::linear(Variable(random_normal({2, 3}, DType::kF32, 1)),
                                Variable(random_normal({4, 5}, DType::kF32, 1))),
                    test::contains("[linear] expected x of shape [..., 5], got [2, 3]"));
}
