#include <cmath>
#include <vector>

#include "kernels/norm/rms_norm.h"

namespace sluice::kernels::cpu {
namespace {

// Rows whose weight gradients are summed by one thread. Fixed, so that the sum's order does not depend on how
// many threads there are.
constexpr int64_t kRowBlock = 64;

}  // namespace

template <class T, class H>
void rms_norm_forward(const RmsNormForward<T, H>& p) {
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    const H* h = p.h + row * p.h_stride;
    double squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < p.columns; ++i) squares += static_cast<double>(h[i]) * h[i];
    const T rstd = static_cast<T>(1.0 / std::sqrt(squares / static_cast<double>(p.columns) + p.eps));
    T* y = p.y + row * p.columns;
    if (p.weight != nullptr) {
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] = h[i] * rstd * p.weight[i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) y[i] = h[i] * rstd;
    }
    if (p.rstd != nullptr) p.rstd[row] = rstd;
  }
}

template <class T, class H>
void rms_norm_backward(const RmsNormBackward<T, H>& p) {
  const int64_t blocks = (p.rows + kRowBlock - 1) / kRowBlock;
  const bool wants_weight = p.dweight != nullptr && p.dy != nullptr;
  std::vector<T> partial(static_cast<size_t>(wants_weight ? blocks * p.columns : 0), T(0));
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t block = 0; block < blocks; ++block) {
    T* dweight = wants_weight ? partial.data() + block * p.columns : nullptr;
    const int64_t last = std::min(p.rows, (block + 1) * kRowBlock);
    for (int64_t row = block * kRowBlock; row < last; ++row) {
      const T* h = p.h + row * p.h_stride;
      const T* dy = p.dy != nullptr ? p.dy + row * p.dy_stride : nullptr;
      const T rstd = p.rstd[row];
      // With n = h * rstd and g = dy * weight: dh = rstd * (g - n * mean(g * n)).
      double sum = 0;
      if (dy != nullptr) {
        if (p.weight != nullptr) {
#pragma omp simd reduction(+ : sum)
          for (int64_t i = 0; i < p.columns; ++i) sum += static_cast<double>(dy[i] * p.weight[i]) * h[i];
        } else {
#pragma omp simd reduction(+ : sum)
          for (int64_t i = 0; i < p.columns; ++i) sum += static_cast<double>(dy[i]) * h[i];
        }
      }
      const T projection = static_cast<T>(sum * rstd * rstd * rstd / static_cast<double>(p.columns));
      if (dweight != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < p.columns; ++i) dweight[i] += dy[i] * h[i] * rstd;
      }
      if (p.dh == nullptr && p.rounded == nullptr) continue;
      T* dh = p.dh != nullptr ? p.dh + row * p.dh_stride : nullptr;
      T* rounded = p.rounded != nullptr ? p.rounded + row * p.columns : nullptr;
      const T* dresidual = p.dresidual != nullptr ? p.dresidual + row * p.columns : nullptr;
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) {
        T gradient = dresidual != nullptr ? dresidual[i] : T(0);
        if (dy != nullptr) {
          const T scaled = p.weight != nullptr ? dy[i] * p.weight[i] : dy[i];
          gradient += rstd * scaled - projection * h[i];
        }
        if (rounded != nullptr) rounded[i] = gradient;
        if (dh != nullptr) dh[i] = p.accumulate_dh ? dh[i] + gradient : gradient;
      }
    }
  }
  if (!wants_weight) return;
  for (int64_t block = 0; block < blocks; ++block) {
#pragma omp simd
    for (int64_t i = 0; i < p.columns; ++i)
      p.dweight[i] += partial[static_cast<size_t>(block * p.columns + i)];
  }
}

template void rms_norm_forward(const RmsNormForward<float>&);
template void rms_norm_forward(const RmsNormForward<double>&);
template void rms_norm_backward(const RmsNormBackward<float>&);
template void rms_norm_backward(const RmsNormBackward<double>&);

}  // namespace sluice::kernels::cpu
