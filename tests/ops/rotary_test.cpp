#include "ops/rotary.h"

#include <cmath>

#include "core/error.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

namespace {

ops::RotaryTable table_of(const std::vector<int64_t>& positions, int64_t head_dim, DType dtype,
                          double theta = 10000.0) {
  return ops::make_rotary_table(positions, head_dim, theta, dtype, Device::kCpu);
}

// The definition, angle and all in long double.
Tensor turned(const Tensor& x, const std::vector<int64_t>& positions, int64_t heads, double theta) {
  const int64_t head_dim = x.size(1) / heads, half = head_dim / 2;
  std::vector<double> y = x.to_vector<double>();
  for (int64_t n = 0; n < x.size(0); ++n) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < half; ++i) {
        const long double exponent = -2.0L * static_cast<long double>(i) / static_cast<long double>(head_dim);
        const long double angle = static_cast<long double>(positions[static_cast<size_t>(n)]) *
                                  std::pow(static_cast<long double>(theta), exponent);
        const auto first = static_cast<size_t>(n * x.size(1) + h * head_dim + i);
        const auto second = first + static_cast<size_t>(half);
        const long double a = y[first], b = y[second];
        y[first] = static_cast<double>(a * std::cos(angle) - b * std::sin(angle));
        y[second] = static_cast<double>(b * std::cos(angle) + a * std::sin(angle));
      }
    }
  }
  return Tensor::from<double>(x.shape(), y);
}

}  // namespace

TEST_CASE("rotary equals its definition") {
  const std::vector<int64_t> positions = {0, 1, 2, 63, 64, 65, 0, 1, 7, 4095};
  for (const int64_t head_dim : {2, 6, 64}) {
    for (const double theta : {10000.0, 500.0}) {
      CAPTURE(head_dim, theta);
      const Tensor x = random_normal({10, 3 * head_dim}, DType::kF64, 1);
      const Tensor expected = turned(x, positions, 3, theta);
      const auto table = table_of(positions, head_dim, DType::kF64, theta);
      CHECK_CLOSE(ops::rotary(Variable(x), table, 3).value(), expected, 1e-12, 1e-11);
      const auto rounded = table_of(positions, head_dim, DType::kF32, theta);
      CHECK_CLOSE(ops::rotary(Variable(x.to(DType::kF32)), rounded, 3).value(), expected, 2e-7, 1e-6);
    }
  }
}

TEST_CASE("rotary keeps its phase at position 2^20") {
  const std::vector<int64_t> positions = {(1 << 20) - 1, 1 << 20, (1 << 20) + 37};
  const Tensor x = random_normal({3, 2 * 64}, DType::kF64, 1);
  const Tensor expected = turned(x, positions, 2, 10000.0);
  CHECK_CLOSE(ops::rotary(Variable(x), table_of(positions, 64, DType::kF64), 2).value(), expected, 1e-10,
              1e-9);
  CHECK_CLOSE(ops::rotary(Variable(x.to(DType::kF32)), table_of(positions, 64, DType::kF32), 2).value(),
              expected, 2e-7, 1e-6);
}

TEST_CASE("rotary: Jacobian, dense and on a slice") {
  const auto table = table_of({5, 0, 1000003}, 4, DType::kF64);
  test::check_gradients(
      [&](const std::vector<Variable>& in) { return std::vector<Variable>{ops::rotary(in[0], table, 3)}; },
      {random_normal({3, 12}, DType::kF64, 1)});
  test::check_gradients(
      [&](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {3, 8});
        return std::vector<Variable>{ops::rotary(parts[1], table, 2), ops::rotary(parts[1], table, 2)};
      },
      {random_normal({3, 11}, DType::kF64, 1)});
}

TEST_CASE("rotary: a table's entry depends on its position alone") {
  std::vector<int64_t> many(5000);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int64_t>(i);
  const auto whole = table_of(many, 32, DType::kF64);
  for (const int64_t position : {0, 1, 63, 64, 4999}) {
    const auto single = table_of({position}, 32, DType::kF64);
    CHECK(single.cosines.to_vector<double>() ==
          whole.cosines.narrow(0, position, 1).clone().to_vector<double>());
    CHECK(single.sines.to_vector<double>() == whole.sines.narrow(0, position, 1).clone().to_vector<double>());
  }
}

TEST_CASE("rotary refuses odd heads, negative positions and shapes that do not fit") {
  CHECK_THROWS_WITH(table_of({0}, 5, DType::kF32),
                    test::contains("[rotary] expected an even head size, got 5"));
  CHECK_THROWS_WITH(table_of({3, -1}, 4, DType::kF32), test::contains("expected positions >= 0, got -1"));
  const auto table = table_of({0, 1}, 4, DType::kF32);
  CHECK_THROWS_WITH(ops::rotary(Variable(random_normal({2, 4}, DType::kF32, 1)), table, 2),
                    test::contains("[rotary] expected x of shape [2, 8], got [2, 4]"));
  CHECK_THROWS_AS(ops::rotary(Variable(random_normal({2, 8}, DType::kF64, 1)), table, 2), Error);
}
