#include <cmath>

#include "gpu/kernel_case.h"
#include "kernels/optim/adamw.h"
#include "kernels/optim/squared_norm.h"
#include "kernels/optim/update_control.h"

using namespace sluice;
using namespace sluice::test;
using kernels::AdamWSegment;
using kernels::UpdateControl;

namespace {

struct Norm {
  double sum;
  int64_t non_finite;
};

Norm device_norm(const std::vector<double>& values, size_t offset, int64_t part = 0, int64_t stride = 0) {
  std::vector<double> shifted(offset, 7.0);
  shifted.insert(shifted.end(), values.begin(), values.end());
  const DeviceArray<float> x(shifted);
  const DeviceArray<double> sum(1);
  const DeviceArray<int64_t> non_finite(1);
  kernels::SquaredNormParams<float> p;
  p.count = static_cast<int64_t>(values.size()), p.x = x.data() + offset;
  if (part > 0) p.count = (p.count + stride - part) / stride * part, p.part = part, p.stride = stride;
  p.sum = sum.data(), p.non_finite = non_finite.data();
  const DeviceArray<char> workspace(static_cast<size_t>(kernels::cuda::squared_norm_workspace(p)));
  p.workspace = workspace.data();
  kernels::cuda::squared_norm(p);
  return {sum.to_host()[0], non_finite.to_host()[0]};
}

struct ControlInput {
  double squared_norm;
  int64_t non_finite;
  double loss, clip_limit;
};

template <class T>
DeviceArray<T> one(T value) {
  return DeviceArray<T>(std::vector<T>{value});
}

struct Buffers {
  std::vector<double> weight, m, v;
};

// Elements and where their buffers begin: with an offset of 0 in packs, otherwise one by one.
struct AdamWCase {
  int64_t count;
  size_t offset;
  std::vector<AdamWSegment> segments;
  bool has_compute_weight;
};

std::vector<double> moved(const std::vector<double>& values, size_t offset) {
  std::vector<double> result(offset, 0.0);
  result.insert(result.end(), values.begin(), values.end());
  return result;
}
std::vector<double> without(std::vector<double> values, size_t offset) {
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(offset));
  return values;
}

void check_adamw(const AdamWCase& c) {
  INFO("adamw of " << c.count << " from " << c.offset);
  const auto count = static_cast<size_t>(c.count);
  Buffers b{as_seen_in<float>(random_values(c.count, 1)), as_seen_in<float>(random_values(c.count, 2, 0.1)),
            as_seen_in<float>(random_values(c.count, 3))};
  for (double& v : b.v) v = std::abs(v);
  const DeviceArray<float> weight(moved(b.weight, c.offset)), m(moved(b.m, c.offset)),
      v(moved(b.v, c.offset));
  const DeviceArray<bfloat16> compute(count + c.offset);
  const DeviceArray<AdamWSegment> segments(c.segments);
  std::vector<bfloat16> rounded(count);
  for (int step = 1; step <= 3; ++step) {
    UpdateControl control;
    control.gradient_factor = 0.3, control.correction1 = 1 - std::pow(0.9, step);
    control.correction2 = 1 - std::pow(0.95, step);
    control.skip = step == 2 ? 1 : 0;
    const DeviceArray<UpdateControl> device_control = one(control);
    const auto gradient = as_seen_in<float>(random_values(c.count, 10 + static_cast<uint64_t>(step)));
    const DeviceArray<float> device_gradient(moved(gradient, c.offset));
    kernels::AdamWParams<double> expected;
    kernels::AdamWParams<float> actual;
    expected.lr = actual.lr = 1e-2, expected.beta2 = actual.beta2 = 0.95, expected.eps = actual.eps = 1e-6;
    expected.segment_count = actual.segment_count = static_cast<int64_t>(c.segments.size());
    expected.segments = c.segments.data(), actual.segments = segments.data();
    expected.control = &control, actual.control = device_control.data();
    expected.weight = b.weight.data(), actual.weight = weight.data() + c.offset;
    expected.gradient = gradient.data(), actual.gradient = device_gradient.data() + c.offset;
    expected.m = b.m.data(), actual.m = m.data() + c.offset;
    expected.v = b.v.data(), actual.v = v.data() + c.offset;
    if (c.has_compute_weight) {
      expected.compute_weight = rounded.data(), actual.compute_weight = compute.data() + c.offset;
    }
    kernels::cpu::adamw(expected);
    kernels::cuda::adamw(actual);
  }
  const auto weights = without(weight.to_doubles(), c.offset);
  check_close<float>("weight", weights, b.weight);
  check_close<float>("m", without(m.to_doubles(), c.offset), b.m);
  check_close<float>("v", without(v.to_doubles(), c.offset), b.v);
  const auto computed = without(compute.to_doubles(), c.offset);
  size_t wrong = 0;
  for (size_t i = 0; i < count; ++i) {
    bool covered = false;
    for (const AdamWSegment& s : c.segments) {
      covered = covered || (static_cast<int64_t>(i) >= s.begin && static_cast<int64_t>(i) < s.end);
    }
    const bool right = covered && c.has_compute_weight
                           ? computed[i] == widened(to_bfloat16(static_cast<float>(weights[i])))
                           : std::isnan(computed[i]);
    if (!right || (!covered && weights[i] != b.weight[i])) ++wrong;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("squared_norm of parts at equal distances") {
  struct Case {
    int64_t parts, part, stride;
  };
  // Parts shorter than a block's tile, longer, in packs and one by one.
  for (const auto& [parts, part, stride] :
       {Case{1, 64, 64}, {50, 64, 192}, {7, 100, 333}, {9, 102400, 204800}}) {
    INFO(parts << " of " << part);
    auto values = as_seen_in<float>(random_values(parts * stride, 1));
    long double sum = 0;
    for (int64_t i = 0; i < parts * part; ++i) {
      const auto value = static_cast<long double>(values[static_cast<size_t>(i / part * stride + i % part)]);
      sum += value * value;
    }
    if (stride > part) values[static_cast<size_t>(part)] = std::numeric_limits<double>::quiet_NaN();
    const Norm norm = device_norm(values, 0, part, stride);
    CHECK(norm.sum == Approx(static_cast<double>(sum)).epsilon(1e-12));
    CHECK(norm.non_finite == 0);
    values[static_cast<size_t>((parts - 1) * stride + part - 1)] = std::numeric_limits<double>::infinity();
    CHECK(device_norm(values, 0, part, stride).non_finite == 1);
  }
}

TEST_CASE("squared_norm") {
  for (const int64_t count : {0, 1, 5, 4096, 100003, 20000001}) {
    for (const size_t offset : {size_t{0}, size_t{1}}) {
      INFO(count << " elements from " << offset);
      auto values = as_seen_in<float>(random_values(count, 1));
      long double sum = 0;
      for (const double value : values) sum += static_cast<long double>(value) * value;
      const auto expected = static_cast<double>(sum);
      const Norm norm = device_norm(values, offset);
      CHECK(norm.sum == Approx(expected).epsilon(1e-12));
      CHECK(norm.non_finite == 0);
      CHECK(device_norm(values, offset).sum == norm.sum);
      if (count < 100) continue;
      values[0] = std::nan(""),
      values[static_cast<size_t>(count / 2)] = std::numeric_limits<double>::infinity();
      values.back() = -std::numeric_limits<double>::infinity();
      const Norm broken = device_norm(values, offset);
      CHECK_FALSE(std::isfinite(broken.sum));
      CHECK(broken.non_finite == 3);
    }
  }
  // Squares of large floats do not overflow.
  CHECK(device_norm(std::vector<double>(5, 3e38), 0).sum == Approx(5 * 9e76).epsilon(1e-6));
}

TEST_CASE("update_control decides like its twin") {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  for (const ControlInput& c : {ControlInput{4, 0, 2.5, 0},
                                {4, 0, 2.5, 1},
                                {4, 0, 2.5, 3},
                                {0, 0, 2.5, 1},
                                {4, 2, 2.5, 1},
                                {infinity, 0, 2.5, 1},
                                {4, 0, nan, 1},
                                {4, 0, -infinity, 0}}) {
    INFO(c.squared_norm << " " << c.non_finite << " " << c.loss << " " << c.clip_limit);
    const auto loss = static_cast<float>(c.loss);
    int64_t updates = 41;
    UpdateControl decided;
    const DeviceArray<double> squared_norm = one(c.squared_norm);
    const DeviceArray<int64_t> non_finite = one(c.non_finite), device_updates = one(updates);
    const DeviceArray<float> device_loss = one(loss);
    const DeviceArray<UpdateControl> control(1);
    kernels::UpdateControlParams<float> p;
    p.clip_limit = c.clip_limit, p.beta1 = 0.9, p.beta2 = 0.999;
    p.squared_norm = squared_norm.data(), p.non_finite = non_finite.data(), p.loss = device_loss.data();
    p.updates = device_updates.data(), p.control = control.data();
    kernels::cuda::update_control(p);
    p.squared_norm = &c.squared_norm, p.non_finite = &c.non_finite, p.loss = &loss;
    p.updates = &updates, p.control = &decided;
    kernels::cpu::update_control(p);
    const UpdateControl actual = control.to_host()[0];
    CHECK(actual.skip == decided.skip);
    CHECK(device_updates.to_host()[0] == updates);
    CHECK(updates == 42 - decided.skip);
    CHECK(std::isnan(actual.gradient_norm) == std::isnan(decided.gradient_norm));
    if (std::isfinite(decided.gradient_norm)) {
      CHECK(actual.gradient_norm == Approx(decided.gradient_norm).epsilon(1e-15));
    }
    CHECK(actual.gradient_factor == Approx(decided.gradient_factor).epsilon(1e-15));
    CHECK(actual.correction1 == Approx(decided.correction1).epsilon(1e-12));
    CHECK(actual.correction2 == Approx(decided.correction2).epsilon(1e-12));
  }
}

TEST_CASE("adamw") {
  // Gaps, odd bounds, neighbours, an empty segment, one longer than a tile and one longer than the grid's
  // tiles.
  const std::vector<AdamWSegment> many = {{3, 20, 0.0},           {20, 23, 0.1},     {37, 37, 0.1},
                                          {40, 6001, 0.1},        {6005, 6006, 0.0}, {6400, 3500000, 0.1},
                                          {3500003, 3500007, 0.2}};
  for (const size_t offset : {size_t{0}, size_t{1}}) {
    check_adamw({3500010, offset, many, true});
    check_adamw({1000, offset, {{0, 1000, 0.1}}, false});
  }
}
