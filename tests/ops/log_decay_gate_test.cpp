#include "ops/log_decay_gate.h"

#include <cmath>

#include "core/error.h"
#include "ops/split_columns.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/gradient_check.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::random_normal;

TEST_CASE("log_decay_gate: Jacobian, with and without a clamp") {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {3, 17}, {65, 4}}) {
    CAPTURE(rows, columns);
    const Tensor a = random_normal({rows, columns}, DType::kF64, 1, 3.0);
    test::check_gradients(
        [](const std::vector<Variable>& in) {
          return std::vector<Variable>{ops::log_decay_gate(in[0], 16.0)};
        },
        {a});
    test::check_gradients(
        [](const std::vector<Variable>& in) {
          return std::vector<Variable>{ops::log_decay_gate(in[0], 4.0, -0.3)};
        },
        {a});
  }
}

TEST_CASE("log_decay_gate on a slice that is used twice") {
  test::check_gradients(
      [](const std::vector<Variable>& in) {
        const auto parts = ops::split_columns(in[0], {2, 5});
        return std::vector<Variable>{ops::log_decay_gate(parts[1], 1.0),
                                     ops::log_decay_gate(parts[1], 2.0, -0.4)};
      },
      {random_normal({4, 7}, DType::kF64, 1)});
}

TEST_CASE("log_decay_gate is accurate to the last places over the whole range") {
  std::vector<double> a;
  for (double magnitude = 1e-12; magnitude < 1e5; magnitude *= 1.37) {
    a.push_back(magnitude);
    a.push_back(-magnitude);
  }
  const int64_t count = static_cast<int64_t>(a.size());
  const Tensor g = ops::log_decay_gate(Variable(Tensor::from<double>({1, count}, a)), 16.0).value();
  const Tensor a32 = Tensor::from<double>({1, count}, a).to(DType::kF32);
  const Tensor g32 = ops::log_decay_gate(Variable(a32), 16.0).value();
  const auto log_sigmoid = [](long double x) {
    return std::min(x, 0.0L) - std::log1p(std::exp(-std::abs(x)));
  };
  for (int64_t i = 0; i < count; ++i) {
    CAPTURE(a[static_cast<size_t>(i)]);
    const double exact = static_cast<double>(log_sigmoid(a[static_cast<size_t>(i)]) / 16);
    CHECK(std::abs(g.data<double>()[i] - exact) <= 2e-15 * std::abs(exact) + 1e-305);
    const double exact32 = static_cast<double>(log_sigmoid(a32.data<float>()[i]) / 16);
    CHECK(std::abs(g32.data<float>()[i] - exact32) <= 6e-7 * std::abs(exact32) + 1e-37);
  }
}

TEST_CASE("log_decay_gate: the gradient stays finite at large inputs of both signs") {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    const Tensor a = Tensor::from<double>({1, 4}, {-1e4, -200.0, 200.0, 1e4}).to(dtype);
    const auto gradients = test::gradients_of(
        [](const std::vector<Variable>& in) {
          return std::vector<Variable>{ops::log_decay_gate(in[0], 16.0)};
        },
        {a}, {Tensor::from<double>({1, 4}, {1, 2, 3, 4}).to(dtype)});
    CHECK_CLOSE(gradients[0], Tensor::from<double>({1, 4}, {1.0 / 16, 2.0 / 16, 0, 0}), 1e-7, 1e-7);
  }
}

TEST_CASE("log_decay_gate: the gradient passes on the clamp, and nowhere below it") {
  const double lowest =
      ops::log_decay_gate(Variable(Tensor::from<double>({1, 1}, {-1.0})), 16.0).value().item();
  const auto gradients = test::gradients_of(
      [&](const std::vector<Variable>& in) {
        return std::vector<Variable>{ops::log_decay_gate(in[0], 16.0, lowest)};
      },
      {Tensor::from<double>({1, 3}, {-1.0 - 1e-9, -1.0, -1.0 + 1e-9})},
      {Tensor::from<double>({1, 3}, {1, 1, 1})});
  const auto da = gradients[0].to_vector<double>();
  CHECK(da[0] == 0.0);
  CHECK(da[1] == Approx(1.0 / (16 * (1 + std::exp(-1.0)))));
  CHECK(da[2] == Approx(da[1]));
}

TEST_CASE("log_decay_gate refuses arguments that do not fit") {
  CHECK_THROWS_WITH(ops::log_decay_gate(Variable(random_normal({3}, DType::kF32, 1)), 16.0),
                    test::contains("[log_decay_gate] expected a of shape [..., C], got [3]"));
  CHECK_THROWS_WITH(ops::log_decay_gate(Variable(random_normal({3, 2}, DType::kF32, 1)), 0.0),
                    test::contains("[log_decay_gate] expected a positive normalizer, got 0"));
}
