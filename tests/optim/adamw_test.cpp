#include "optim/adamw.h"

#include <cmath>
#include <limits>

#include "support/catch.h"
#include "support/random_tensor.h"

using namespace sluice;

TEST_CASE("AdamW equals a scalar reference, with decay on the entries that have it") {
  ParameterArena arena({{"decayed", {3}, true}, {"plain", {2}, false}}, DType::kF64, Device::kCpu);
  arena.weight(0).copy_from(test::random_normal({3}, DType::kF64, 1));
  arena.weight(1).copy_from(test::random_normal({2}, DType::kF64, 2));
  const AdamWOptions options{0.8, 0.95, 1e-6, 0.3};
  AdamW optimizer(arena, options);
  double w[2] = {arena.weight(0).data<double>()[1], arena.weight(1).data<double>()[1]}, m[2] = {}, v[2] = {};
  for (int t = 1; t <= 10; ++t) {
    const double gradient[2] = {std::sin(t), 0.1 * t}, factor = 0.5, lr = 0.01 * t;
    arena.gradient(0).data<double>()[1] = gradient[0];
    arena.gradient(1).data<double>()[1] = gradient[1];
    optimizer.step(lr, factor);
    for (int i = 0; i < 2; ++i) {
      const double g = gradient[i] * factor;
      m[i] = options.beta1 * m[i] + (1 - options.beta1) * g;
      v[i] = options.beta2 * v[i] + (1 - options.beta2) * g * g;
      w[i] -= lr * (i == 0 ? options.weight_decay : 0.0) * w[i];
      w[i] -= lr * (m[i] / (1 - std::pow(options.beta1, t))) /
              (std::sqrt(v[i] / (1 - std::pow(options.beta2, t))) + options.eps);
    }
    CHECK(std::abs(arena.weight(0).data<double>()[1] - w[0]) < 1e-13);
    CHECK(std::abs(arena.weight(1).data<double>()[1] - w[1]) < 1e-13);
  }
  CHECK(optimizer.updates() == 10);
}

TEST_CASE("the gradient norm is exact and notices what is not finite") {
  const ParameterArena arena({{"a", {2}, true}, {"b", {1}, true}}, DType::kF32, Device::kCpu);
  arena.gradient(0).data<float>()[0] = 3;
  arena.gradient(1).data<float>()[0] = 4;
  CHECK(gradient_norm(arena) == 5.0);
  CHECK(clipping_factor(5.0, 1.0) == 0.2);
  CHECK(clipping_factor(0.5, 1.0) == 1.0);
  CHECK(clipping_factor(5.0, 0.0) == 1.0);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    arena.gradient(0).data<float>()[1] = bad;
    CHECK_FALSE(std::isfinite(gradient_norm(arena)));
  }
}
