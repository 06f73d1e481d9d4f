#include "kernels/optim/adamw.h"

#include <algorithm>
#include <cmath>

namespace sluice::kernels::cpu {
namespace {

constexpr int64_t kBlock = 16384;

template <class T>
void update(const AdamWParams<T>& p, int64_t begin, int64_t end, double weight_decay) {
  const T beta1 = static_cast<T>(p.beta1), beta2 = static_cast<T>(p.beta2), eps = static_cast<T>(p.eps);
  // 1 - beta is taken in double: in float, 1 - 0.999 has but 4 digits.
  const T rest1 = static_cast<T>(1 - p.beta1), rest2 = static_cast<T>(1 - p.beta2);
  const T factor = static_cast<T>(p.control->gradient_factor);
  const T kept = static_cast<T>(1 - p.lr * weight_decay);
  const T step = static_cast<T>(p.lr / p.control->correction1);
  const T root = static_cast<T>(1 / std::sqrt(p.control->correction2));
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = p.gradient[i] * factor;
    const T m = beta1 * p.m[i] + rest1 * g;
    const T v = beta2 * p.v[i] + rest2 * g * g;
    p.m[i] = m;
    p.v[i] = v;
    p.weight[i] = kept * p.weight[i] - step * m / (std::sqrt(v) * root + eps);
  }
  if (p.compute_weight == nullptr) return;
  for (int64_t i = begin; i < end; ++i) p.compute_weight[i] = to_bfloat16(static_cast<float>(p.weight[i]));
}

}  // namespace

template <class T>
void adamw(const AdamWParams<T>& p) {
  if (p.control->skip != 0) return;
#pragma omp parallel
  for (int64_t s = 0; s < p.segment_count; ++s) {
    const AdamWSegment& segment = p.segments[s];
#pragma omp for nowait
    for (int64_t begin = segment.begin; begin < segment.end; begin += kBlock) {
      update(p, begin, std::min(segment.end, begin + kBlock), segment.weight_decay);
    }
  }
}

template void adamw(const AdamWParams<float>&);
template void adamw(const AdamWParams<double>&);

}  // namespace sluice::kernels::cpu
