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
  const AdamWOptions options{0.8, 0.95, 1e-6, 0.3, 0};
  const Tensor loss = Tensor::from<double>(Shape{}, {1.0});
  AdamW optimizer(arena, options);
  double w[2] = {arena.weight(0).data<double>()[1], arena.weight(1).data<double>()[1]}, m[2] = {}, v[2] = {};
  for (int t = 1; t <= 10; ++t) {
    const double gradient[2] = {std::sin(t), 0.1 * t}, lr = 0.01 * t;
    arena.gradient(0).data<double>()[1] = gradient[0];
    arena.gradient(1).data<double>()[1] = gradient[1];
    optimizer.step(lr, loss);
    for (int i = 0; i < 2; ++i) {
      const double g = gradient[i];
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

TEST_CASE("gradients are clipped to the global norm, and what is not finite skips the step") {
  ParameterArena arena({{"a", {2}, false}, {"b", {1}, false}}, DType::kF32, Device::kCpu);
  const Tensor loss = Tensor::from<float>(Shape{}, {1.0f});
  const auto set_gradients = [&](float a, float b) {
    arena.gradient(0).data<float>()[0] = a;
    arena.gradient(1).data<float>()[0] = b;
  };
  // With beta1 = beta2 = 0 and eps 1 the update is g / (|g| + 1), which shows the factor.
  const auto updated = [&](double clip, double learning_rate) {
    AdamW optimizer(arena, {0, 0, 1, 0, clip});
    arena.weights().fill_zero();
    optimizer.step(learning_rate, loss);
    CHECK_FALSE(optimizer.report().skipped);
    CHECK(optimizer.report().gradient_norm == 5.0);
    CHECK(optimizer.updates() == 1);
    return arena.weight(1).data<float>()[0];
  };
  set_gradients(3, 4);
  CHECK(updated(0, 1) == Approx(-4.0 / 5.0));
  CHECK(updated(10, 1) == Approx(-4.0 / 5.0));
  CHECK(updated(1, 1) == Approx(-0.8 / 1.8));

  AdamW optimizer(arena, {});
  arena.first_moments().fill_zero();
  const auto before = arena.weights().to_vector<float>();
  const auto check_skipped = [&](const Tensor& given_loss) {
    optimizer.step(1.0, given_loss);
    CHECK(optimizer.report().skipped);
    CHECK(arena.weights().to_vector<float>() == before);
    for (const float moment : arena.first_moments().to_vector<float>()) CHECK(moment == 0.0f);
    CHECK(optimizer.updates() == 0);
  };
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    check_skipped(Tensor::from<float>(Shape{}, {bad}));
    set_gradients(bad, 4);
    check_skipped(loss);
    CHECK(std::isnan(optimizer.report().gradient_norm));
    CHECK(optimizer.count_non_finite(arena.gradients()) == 1);
    set_gradients(3, 4);
  }
}

TEST_CASE("ranks that share the moments make the update of one, bit for bit") {
  const std::vector<ArenaEntry> entries = {{"a", {7, 50}, true}, {"b", {3}, false}, {"c", {11, 90}, true}};
  const AdamWOptions options{0.8, 0.95, 1e-6, 0.3, 0.5};
  const Tensor loss = Tensor::from<float>(Shape{}, {1.0f});
  for (const int count : {2, 3, 4}) {
    ParameterArena whole(entries, DType::kF32, Device::kCpu);
    AdamW reference(whole, options);
    std::vector<std::unique_ptr<ParameterArena>> arenas;
    std::vector<std::unique_ptr<AdamW>> optimizers;
    for (int rank = 0; rank < count; ++rank) {
      arenas.push_back(
          std::make_unique<ParameterArena>(entries, DType::kF32, Device::kCpu, ArenaShards{count, rank}));
      optimizers.push_back(std::make_unique<AdamW>(*arenas.back(), options));
      CHECK(arenas.back()->elements() % (64 * count) == 0);
      CHECK(arenas.back()->first_moments().numel() == arenas.back()->elements() / count);
      CHECK(arenas.back()->layout_fingerprint() == whole.layout_fingerprint());
    }
    for (int step = 0; step < 5; ++step) {
      for (size_t i = 0; i < entries.size(); ++i) {
        const auto seed = static_cast<uint64_t>(10 * step) + i;
        const Tensor gradient = test::random_normal(entries[i].shape, DType::kF32, seed);
        whole.gradient(i).copy_from(gradient);
        for (auto& arena : arenas) arena->gradient(i).copy_from(gradient);
      }
      reference.step(0.01, loss);
      // The collectives: other slices of the gradients are nobody's, norms are added, weights are handed out.
      double norm = 0;
      for (int rank = 0; rank < count; ++rank) {
        const ParameterArena& arena = *arenas[static_cast<size_t>(rank)];
        for (int other = 0; other < count; ++other) {
          if (other != rank)
            arena.slices(arena.gradients(), other).add_from(arena.slices(arena.gradients(), rank));
        }
        optimizers[static_cast<size_t>(rank)]->measure();
        norm += optimizers[static_cast<size_t>(rank)]->squared_norm().item();
      }
      CHECK(std::sqrt(norm) == Approx(reference.report().gradient_norm).epsilon(1e-14));
      for (int rank = 0; rank < count; ++rank) {
        AdamW& optimizer = *optimizers[static_cast<size_t>(rank)];
        // That of the reference itself, so that the clipping factor has the same bits.
        optimizer.squared_norm().copy_from(reference.squared_norm());
        optimizer.update(0.01, loss);
      }
      for (int rank = 0; rank < count; ++rank) {
        const ParameterArena& from = *arenas[static_cast<size_t>(rank)];
        for (auto& arena : arenas)
          arena->slices(arena->weights(), rank).copy_from(from.slices(from.weights(), rank));
      }
      for (size_t i = 0; i < entries.size(); ++i) {
        for (auto& arena : arenas)
          CHECK(arena->weight(i).to_vector<float>() == whole.weight(i).to_vector<float>());
      }
    }
  }
}
