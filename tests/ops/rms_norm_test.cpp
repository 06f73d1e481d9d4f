#include "ops/rms_norm.h"

#include "core/error.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

TEST_CASE("rms_norm: Jacobian") {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {65, 4}, {2, 33}}) {
    CAPTURE(rows, columns);
    test::check_gradients(
        [](const std::vector<Variable>& in) {
          return std::vector<Variable>{ops::rms_norm(in[0], in[1], 1e-3)};
        },
        {random_normal({rows, columns}, DType::kF64, 1), random_normal({columns}, DType::kF64, 2)});
  }
}

TEST_CASE("rms_norm without weight, on a strided slice") {
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {2, 5});
        return std::vector<Variable>{ops::rms_norm(parts[1], Variable(), 1e-6)};
      },
      {random_normal({4, 7}, DType::kF64, 1)});
}

TEST_CASE("rms_norm refuses shapes that do not fit") {
  const Variable x(random_normal({2, 4}, DType::kF32, 1));
  CHECK_THROWS_WITH(ops::rms_norm(x, Variable(random_normal({5}, DType::kF32, 1)), 1e-6),
                    test::contains("[rms_norm] expected weight of shape [4], got [5]"));
  CHECK_THROWS_AS(ops::rms_norm(x, Variable(random_normal({4}, DType::kF64, 1)), 1e-6), Error);
}
