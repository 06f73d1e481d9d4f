#include "ops/rotary.h"

#include <cmath>

#include "core/error.h"
#include "ops/elementwise.h"
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

TEST_CASE("split_rotary: the bits of its definition, in place, without a copy in forward or backward") {
  using Inputs = std::vector<Variable>;
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const int64_t rows : {0, 1, 5}) {
      std::vector<int64_t> positions(static_cast<size_t>(rows));
      for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i * i);
      // Three heads of queries, one of keys; values, and a column that is cut off.
      const std::vector<int64_t> widths = {3 * 6, 6, 7, 1};
      const auto table = table_of(positions, 6, dtype);
      const auto fresh = [](const Variable& x) { return ops::add(x, x); };
      const auto definition = [&](const Inputs& in) {
        auto parts = ops::split_columns(fresh(in[0]), widths);
        parts[0] = ops::rotary(parts[0], table, 3), parts[1] = ops::rotary(parts[1], table, 1);
        return parts;
      };
      const auto op = [&](const Inputs& in) { return ops::split_rotary(fresh(in[0]), widths, table, 4); };
      const Tensor x = random_normal({rows, 32}, dtype, 1);
      std::vector<Tensor> cotangents;
      for (const int64_t width : widths) cotangents.push_back(random_normal({rows, width}, dtype, 2));
      const auto expected = definition({Variable(x)}), actual = op({Variable(x)});
      for (size_t i = 0; i < widths.size(); ++i) CHECK_CLOSE(actual[i].value(), expected[i].value(), 0, 0);
      CHECK_CLOSE(test::gradients_of(op, {x}, cotangents)[0],
                  test::gradients_of(definition, {x}, cotangents)[0], 0, 0);
      // Parts used twice, of which one's gradient comes as somebody else's memory, and parts not used.
      const auto twice = [](const Inputs& parts) {
        return Inputs{ops::add(parts[0], parts[0]), ops::multiply(parts[1], parts[1]), parts[1]};
      };
      const std::vector<Tensor> of_twice = {cotangents[0], cotangents[1], cotangents[1]};
      CHECK_CLOSE(
          test::gradients_of([&](const Inputs& in) { return twice(op(in)); }, {x}, of_twice)[0],
          test::gradients_of([&](const Inputs& in) { return twice(definition(in)); }, {x}, of_twice)[0], 0,
          0);
      // The cotangents are the caller's.
      CHECK_CLOSE(cotangents[0], random_normal({rows, 18}, dtype, 2), 0, 0);
      const Variable merged = fresh(Variable(x));
      const auto parts = ops::split_rotary(merged, widths, table, 4);
      CHECK(parts[2].value().same_view(merged.value().columns(24, 7)));
      CHECK(parts[0].value().same_view(merged.value().columns(0, 18)));
    }
  }
  const auto table = table_of({3, 0}, 4, DType::kF64);
  test::check_gradients(
      [&](const Inputs& in) {
        return ops::split_rotary(ops::add(in[0], in[0]), {8, 4, 3}, table, 3);
      },
      {random_normal({2, 15}, DType::kF64, 1)});
  const Variable leaf(random_normal({2, 15}, DType::kF64, 1), true),
      short_one(random_normal({2, 11}, DType::kF64, 1));
  CHECK_THROWS_WITH(ops::split_rotary(leaf, {8, 4, 3}, table, 3),
                    test::contains("[split_rotary] x is a leaf"));
  CHECK_THROWS_WITH(ops::split_rotary(short_one, {8, 3}, table, 3),
                    test::contains("[split_rotary] expected x of shape [2, 12 or more], got [2, 11]"));
  CHECK_THROWS_WITH(ops::split_rotary(Variable(leaf.value()), {8, 4}, table, 3),
                    test::contains("[split_rotary] widths add up to 12"));
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
