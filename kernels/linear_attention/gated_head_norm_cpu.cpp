#include "kernels/linear_attention/gated_head_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/vector_exp.h"

namespace sluice::kernels::cpu {
namespace {

// The weight gradient is summed over at most this many blocks of rows, each of at least kRowBlock: the order
// depends on the number of rows alone.
constexpr int64_t kMostBlocks = 256;
constexpr int64_t kRowBlock = 64;

template <class T>
struct HeadGradient {
  const T *o, *gate, *weight, *dy;  // [D]; gate and weight may be null
  T rstd;
  T *d_o, *dgate, *dweight;  // [D], null where not wanted
  bool accumulate_d_o, accumulate_dgate;
  T* dz;  // [D] scratch: the gradient of z = n * weight, with n = o * rstd and y = z * SiLU(gate)
};

template <class T>
void head_backward(const HeadGradient<T>& h, int64_t D) {
  const T* dz = h.dy;
  if (h.gate != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < D; ++i) h.dz[i] = h.dy[i] * h.gate[i] / (T(1) + vector_exp(-h.gate[i]));
    dz = h.dz;
  }
  if (h.dgate != nullptr) {
    if (!h.accumulate_dgate) std::fill_n(h.dgate, D, T(0));
#pragma omp simd
    for (int64_t i = 0; i < D; ++i) {
      const T z = h.o[i] * h.rstd * (h.weight != nullptr ? h.weight[i] : T(1));
      const T sigmoid = T(1) / (T(1) + vector_exp(-h.gate[i]));
      h.dgate[i] += h.dy[i] * z * sigmoid * (T(1) + h.gate[i] * (T(1) - sigmoid));
    }
  }
  if (h.dweight != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < D; ++i) h.dweight[i] += dz[i] * h.o[i] * h.rstd;
  }
  if (h.d_o == nullptr) return;
  // With dn = dz * weight: do = rstd * (dn - n * mean(dn * n)).
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < D; ++i) {
    sum += static_cast<double>(dz[i] * (h.weight != nullptr ? h.weight[i] : T(1))) * h.o[i];
  }
  const T projection = static_cast<T>(sum * h.rstd * h.rstd * h.rstd / static_cast<double>(D));
  if (!h.accumulate_d_o) std::fill_n(h.d_o, D, T(0));
#pragma omp simd
  for (int64_t i = 0; i < D; ++i) {
    const T dn = dz[i] * (h.weight != nullptr ? h.weight[i] : T(1));
    h.d_o[i] += h.rstd * dn - projection * h.o[i];
  }
}

}  // namespace

template <class T>
void gated_head_norm_forward(const GatedHeadNormForward<T>& p) {
  const int64_t D = p.head_size;
#pragma omp parallel for if (p.rows * p.heads * D > 16384)
  for (int64_t row = 0; row < p.rows; ++row) {
    for (int64_t head = 0; head < p.heads; ++head) {
      const T* o = p.o + row * p.o_stride + head * D;
      T* y = p.y + row * p.y_stride + head * D;
      double squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < D; ++i) squares += static_cast<double>(o[i]) * o[i];
      const T rstd = static_cast<T>(1.0 / std::sqrt(squares / static_cast<double>(D) + p.eps));
#pragma omp simd
      for (int64_t i = 0; i < D; ++i) y[i] = o[i] * rstd * (p.weight != nullptr ? p.weight[i] : T(1));
      if (p.gate != nullptr) {
        const T* gate = p.gate + row * p.gate_stride + head * D;
#pragma omp simd
        for (int64_t i = 0; i < D; ++i) y[i] *= gate[i] / (T(1) + vector_exp(-gate[i]));
      }
      if (p.rstd != nullptr) p.rstd[row * p.heads + head] = rstd;
    }
  }
}

template <class T>
void gated_head_norm_backward(const GatedHeadNormBackward<T>& p) {
  const int64_t D = p.head_size;
  const int64_t block_rows = std::max(kRowBlock, (p.rows + kMostBlocks - 1) / kMostBlocks);
  const int64_t blocks = (p.rows + block_rows - 1) / block_rows;
  // A block's partial weight gradient, and its scratch row.
  std::vector<T> partial(static_cast<size_t>(blocks * 2 * D), T(0));
#pragma omp parallel for if (p.rows * p.heads * D > 16384)
  for (int64_t block = 0; block < blocks; ++block) {
    T* sums = partial.data() + block * 2 * D;
    const int64_t last = std::min(p.rows, (block + 1) * block_rows);
    for (int64_t row = block * block_rows; row < last; ++row) {
      for (int64_t head = 0; head < p.heads; ++head) {
        HeadGradient<T> h{};
        h.o = p.o + row * p.o_stride + head * D;
        h.gate = p.gate != nullptr ? p.gate + row * p.gate_stride + head * D : nullptr;
        h.weight = p.weight;
        h.dy = p.dy + row * p.dy_stride + head * D;
        h.rstd = p.rstd[row * p.heads + head];
        h.d_o = p.d_o != nullptr ? p.d_o + row * p.d_o_stride + head * D : nullptr;
        h.dgate = p.dgate != nullptr ? p.dgate + row * p.dgate_stride + head * D : nullptr;
        h.dweight = p.dweight != nullptr ? sums : nullptr;
        h.accumulate_d_o = p.accumulate_d_o, h.accumulate_dgate = p.accumulate_dgate;
        h.dz = sums + D;
        head_backward(h, D);
      }
    }
  }
  if (p.dweight == nullptr) return;
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t i = 0; i < D; ++i) p.dweight[i] += partial[static_cast<size_t>(block * 2 * D + i)];
  }
}

template void gated_head_norm_forward(const GatedHeadNormForward<float>&);
template void gated_head_norm_forward(const GatedHeadNormForward<double>&);
template void gated_head_norm_backward(const GatedHeadNormBackward<float>&);
template void gated_head_norm_backward(const GatedHeadNormBackward<double>&);

}  // namespace sluice::kernels::cpu
