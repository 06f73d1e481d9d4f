#include <omp.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/optim/adamw.h"
#include "kernels/optim/squared_norm.h"
#include "kernels/optim/update_control.h"
#include "support/catch.h"
#include "support/random_tensor.h"

using namespace sluice;
using kernels::AdamWSegment;

namespace {

struct Settings {
  double lr = 1e-2, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, gradient_factor = 1;
  bool skip = false;
  bfloat16* compute_weight = nullptr;
};

template <class T>
struct Buffers {
  std::vector<T> weight, m, v;
};

std::vector<double> random_values(int64_t count, uint64_t seed) {
  return test::random_normal({count}, DType::kF64, seed).to_vector<double>();
}

double decay_of(const std::vector<AdamWSegment>& segments, int64_t i, bool& covered) {
  for (const AdamWSegment& segment : segments) {
    if (i >= segment.begin && i < segment.end) {
      covered = true;
      return segment.weight_decay;
    }
  }
  covered = false;
  return 0;
}

// The algorithm as the paper states it, one element at a time in double.
void reference_step(Buffers<double>& b, const std::vector<double>& gradient,
                    const std::vector<AdamWSegment>& segments, const Settings& s, int step) {
  for (size_t i = 0; i < b.weight.size(); ++i) {
    bool covered = false;
    const double decay = decay_of(segments, static_cast<int64_t>(i), covered);
    if (!covered) continue;
    const double g = gradient[i] * s.gradient_factor;
    b.m[i] = s.beta1 * b.m[i] + (1 - s.beta1) * g;
    b.v[i] = s.beta2 * b.v[i] + (1 - s.beta2) * g * g;
    const double m_hat = b.m[i] / (1 - std::pow(s.beta1, step));
    const double v_hat = b.v[i] / (1 - std::pow(s.beta2, step));
    b.weight[i] -= s.lr * decay * b.weight[i];
    b.weight[i] -= s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
  }
}

template <class T>
void kernel_step(Buffers<T>& b, const std::vector<T>& gradient, const std::vector<AdamWSegment>& segments,
                 const Settings& s, int step) {
  kernels::AdamWParams<T> p;
  p.weight = b.weight.data(), p.gradient = gradient.data(), p.m = b.m.data(), p.v = b.v.data();
  p.segments = segments.data(), p.segment_count = static_cast<int64_t>(segments.size());
  p.lr = s.lr, p.beta1 = s.beta1, p.beta2 = s.beta2, p.eps = s.eps;
  kernels::UpdateControl control;
  control.gradient_factor = s.gradient_factor;
  control.correction1 = 1 - std::pow(s.beta1, step), control.correction2 = 1 - std::pow(s.beta2, step);
  control.skip = s.skip ? 1 : 0;
  p.control = &control, p.compute_weight = s.compute_weight;
  kernels::cpu::adamw(p);
}

template <class T>
std::vector<T> converted(const std::vector<double>& values) {
  return std::vector<T>(values.begin(), values.end());
}

template <class T>
double largest_error(const std::vector<T>& actual, const std::vector<double>& expected) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
    worst = std::max(worst, error / std::max(0.1, std::abs(expected[i])));
    if (std::isnan(error)) return error;
  }
  return worst;
}

template <class T>
void check_ten_steps(const Settings& s, double tolerance) {
  // Two segments around a gap that belongs to nobody, one of them longer than a block of the kernel.
  constexpr int64_t kCount = 40000;
  const std::vector<AdamWSegment> segments = {{3, 20, 0.0}, {37, kCount - 1, 0.1}};
  const auto initial = converted<T>(random_values(kCount, 1));
  Buffers<double> expected{
      {initial.begin(), initial.end()}, std::vector<double>(kCount, 0), std::vector<double>(kCount, 0)};
  Buffers<T> actual{initial, std::vector<T>(kCount, 0), std::vector<T>(kCount, 0)};
  for (int step = 1; step <= 10; ++step) {
    const auto gradient = converted<T>(random_values(kCount, 10 + static_cast<uint64_t>(step)));
    reference_step(expected, {gradient.begin(), gradient.end()}, segments, s, step);
    kernel_step(actual, gradient, segments, s, step);
  }
  CHECK(largest_error(actual.weight, expected.weight) < tolerance);
  CHECK(largest_error(actual.m, expected.m) < tolerance);
  CHECK(largest_error(actual.v, expected.v) < tolerance);
  CHECK(actual.weight[0] == initial[0]);
  CHECK(actual.weight[25] == initial[25]);
  CHECK(actual.weight[kCount - 1] == initial[kCount - 1]);
}

template <class T>
double squared_norm(const std::vector<T>& x, int64_t* non_finite) {
  double sum = -1;
  kernels::SquaredNormParams<T> p;
  p.count = static_cast<int64_t>(x.size()), p.x = x.data(), p.sum = &sum, p.non_finite = non_finite;
  kernels::cpu::squared_norm(p);
  return sum;
}

}  // namespace

TEST_CASE("adamw: ten steps against the algorithm in double") {
  Settings clipped;
  clipped.gradient_factor = 0.01;
  Settings large_eps;
  large_eps.eps = 0.1;
  large_eps.beta2 = 0.999;
  for (const Settings& settings : {Settings(), clipped, large_eps}) {
    check_ten_steps<double>(settings, 1e-13);
    check_ten_steps<float>(settings, 2e-6);
  }
}

TEST_CASE("adamw: weight decay acts on the weight alone, not through the moments") {
  Buffers<double> b{{2.0}, {0.0}, {0.0}};
  Settings s;
  s.lr = 0.1;
  kernel_step<double>(b, {0.0}, {{0, 1, 0.5}}, s, 1);
  CHECK(b.weight[0] == Approx(2.0 * (1 - 0.1 * 0.5)).epsilon(1e-15));
  CHECK(b.m[0] == 0);
  CHECK(b.v[0] == 0);
}

TEST_CASE("adamw: leaves a rounded copy of the weights, and nothing when the update is skipped") {
  constexpr uint16_t kUntouched = 0x1234;
  std::vector<bfloat16> rounded(3, bfloat16{kUntouched});
  Buffers<float> b{{1.5f, 2.25f, -3.0f}, {0, 0, 0}, {0, 0, 0}};
  Settings s;
  s.compute_weight = rounded.data();
  s.skip = true;
  kernel_step<float>(b, {1, 2, 3}, {{0, 2, 0.1}}, s, 1);
  CHECK(b.weight == std::vector<float>{1.5f, 2.25f, -3.0f});
  CHECK(b.v == std::vector<float>(3, 0));
  CHECK(rounded[0].bits == kUntouched);
  s.skip = false;
  kernel_step<float>(b, {1, 2, 3}, {{0, 2, 0.1}}, s, 1);
  CHECK(b.weight[0] < 1.5f);
  CHECK(rounded[0].bits == to_bfloat16(b.weight[0]).bits);
  CHECK(rounded[1].bits == to_bfloat16(b.weight[1]).bits);
  CHECK(rounded[2].bits == kUntouched);
}

TEST_CASE("update_control: clips, skips and counts") {
  double squared_norm = 16, loss = 2;
  int64_t non_finite = 0, updates = 9;
  kernels::UpdateControl control;
  kernels::UpdateControlParams<double> p;
  p.squared_norm = &squared_norm, p.non_finite = &non_finite, p.loss = &loss, p.updates = &updates;
  p.control = &control, p.beta1 = 0.9, p.beta2 = 0.99;
  kernels::cpu::update_control(p);
  CHECK(control.gradient_norm == 4);
  CHECK(control.gradient_factor == 1);
  CHECK(control.skip == 0);
  CHECK(updates == 10);
  CHECK(control.correction1 == Approx(1 - std::pow(0.9, 10)).epsilon(1e-15));
  CHECK(control.correction2 == Approx(1 - std::pow(0.99, 10)).epsilon(1e-15));
  p.clip_limit = 5;
  kernels::cpu::update_control(p);
  CHECK(control.gradient_factor == 1);
  p.clip_limit = 1;
  kernels::cpu::update_control(p);
  CHECK(control.gradient_factor == 0.25);
  CHECK(updates == 12);
  non_finite = 1;
  kernels::cpu::update_control(p);
  CHECK(std::isnan(control.gradient_norm));
  CHECK(control.gradient_factor == 1);
  CHECK(control.skip == 1);
  non_finite = 0, loss = std::numeric_limits<double>::infinity();
  kernels::cpu::update_control(p);
  CHECK(control.skip == 1);
  CHECK(updates == 12);
}

TEST_CASE("squared_norm: parts at equal distances") {
  constexpr int64_t kParts = 3, kPart = 40000, kStride = 70001;
  auto x = converted<double>(random_values(kParts * kStride, 6));
  std::vector<double> dense;
  for (int64_t part = 0; part < kParts; ++part)
    dense.insert(dense.end(), x.begin() + part * kStride + 5, x.begin() + part * kStride + 5 + kPart);
  x[0] = x[5 + kPart] = std::numeric_limits<double>::quiet_NaN();  // outside
  double sum = -1;
  int64_t non_finite = -1;
  kernels::SquaredNormParams<double> p;
  p.count = kParts * kPart, p.x = x.data() + 5, p.part = kPart, p.stride = kStride;
  p.sum = &sum, p.non_finite = &non_finite;
  kernels::cpu::squared_norm(p);
  int64_t none = -1;
  CHECK(sum == Approx(squared_norm(dense, &none)).epsilon(1e-12));
  CHECK(non_finite == 0);
  x[5 + 2 * kStride + kPart - 1] = std::numeric_limits<double>::infinity();
  kernels::cpu::squared_norm(p);
  CHECK(non_finite == 1);
}

TEST_CASE("squared_norm: value, bits for any number of threads, and non-finite elements") {
  constexpr int64_t kCount = 100003;
  const auto values = random_values(kCount, 5);
  auto x = converted<float>(values);
  long double expected = 0;
  for (const float value : x) expected += static_cast<long double>(value) * value;
  int64_t non_finite = -1;
  const double sum = squared_norm(x, &non_finite);
  // At worst a block of 32768 numbers is added one after another, with a rounding of 2^-53 each.
  CHECK(sum == Approx(static_cast<double>(expected)).epsilon(32768 * 0x1p-53));
  CHECK(non_finite == 0);

  const int threads = omp_get_max_threads();
  for (const int count : {1, 2, 3, 7}) {
    omp_set_num_threads(count);
    CHECK(squared_norm(x, &non_finite) == sum);
  }
  omp_set_num_threads(threads);

  x[0] = std::numeric_limits<float>::quiet_NaN();
  x[70000] = -std::numeric_limits<float>::infinity();
  x[kCount - 1] = std::numeric_limits<float>::infinity();
  CHECK_FALSE(std::isfinite(squared_norm(x, &non_finite)));
  CHECK(non_finite == 3);
  // Squares of large floats do not overflow.
  CHECK(squared_norm(std::vector<float>(4, 3e38f), &non_finite) == Approx(4 * 9e76).epsilon(1e-6));
  CHECK(non_finite == 0);
  CHECK(squared_norm(std::vector<double>(), &non_finite) == 0);
  CHECK(non_finite == 0);
}
