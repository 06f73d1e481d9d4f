#include "kernels/linear_attention/log_decay_gate.h"

#include <algorithm>

#include "core/vector_exp.h"

namespace sluice::kernels::cpu {
namespace {

// log(1 + u) for 0 <= u <= 1, accurate relative to u, without a library call so that loops become vector
// code: 2 artanh(r) by its series, with r = u / (2 + u) at most 1/3.
template <class T>
inline T log_one_plus(T u) {
  constexpr int kTerms = sizeof(T) == sizeof(float) ? 8 : 17;
  const T r = u / (T(2) + u), squared = r * r;
  T sum = T(1) / T(2 * kTerms - 1);
  for (int n = kTerms - 2; n >= 0; --n) sum = sum * squared + T(1) / T(2 * n + 1);
  return T(2) * r * sum;
}

// Both passes must round alike, so that a value on the clamp is judged the same.
template <class T>
inline T log_sigmoid(T a) {
  return (a < T(0) ? a : T(0)) - log_one_plus(vector_exp(a < T(0) ? a : -a));
}

}  // namespace

template <class T>
void log_decay_gate_forward(const LogDecayGateForward<T>& p) {
  const T normalizer = static_cast<T>(p.normalizer), clamp_min = static_cast<T>(p.clamp_min);
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T* a = p.a + row * p.a_stride;
    T* g = p.g + row * p.g_stride;
#pragma omp simd
    for (int64_t i = 0; i < p.columns; ++i) {
      const T value = log_sigmoid(a[i]) / normalizer;
      g[i] = value < clamp_min ? clamp_min : value;
    }
  }
}

template <class T>
void log_decay_gate_backward(const LogDecayGateBackward<T>& p) {
  const T normalizer = static_cast<T>(p.normalizer), clamp_min = static_cast<T>(p.clamp_min);
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T *a = p.a + row * p.a_stride, *dg = p.dg + row * p.dg_stride;
    T* da = p.da + row * p.da_stride;
    if (!p.accumulate_da) std::fill_n(da, p.columns, T(0));
#pragma omp simd
    for (int64_t i = 0; i < p.columns; ++i) {
      const T slope = T(1) / ((T(1) + vector_exp(a[i])) * normalizer);
      da[i] += (log_sigmoid(a[i]) / normalizer < clamp_min ? T(0) : dg[i] * slope);
    }
  }
}

template void log_decay_gate_forward(const LogDecayGateForward<float>&);
template void log_decay_gate_forward(const LogDecayGateForward<double>&);
template void log_decay_gate_backward(const LogDecayGateBackward<float>&);
template void log_decay_gate_backward(const LogDecayGateBackward<double>&);

}  // namespace sluice::kernels::cpu
