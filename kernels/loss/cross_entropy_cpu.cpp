#include "kernels/loss/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/vector_exp.h"

namespace sluice::kernels::cpu {
namespace {

constexpr int64_t kStretch = 1024;

template <class T>
T maximum_of(const T* z, int64_t columns) {
  // One maximum a lane; NaN drops out here and comes back with the sum.
  constexpr int64_t kLanes = 32;
  T lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<T>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = z[i + lane] > lanes[lane] ? z[i + lane] : lanes[lane];
    }
  }
  T maximum = *std::max_element(lanes, lanes + kLanes);
  for (; i < columns; ++i) maximum = std::max(maximum, z[i]);
  return maximum;
}

// sum_j exp(z_j - maximum); with kStore the exponentials replace the logits.
template <bool kStore, class T>
double exponential_sum(T* z, int64_t columns, T maximum) {
  double total = 0;
  for (int64_t first = 0; first < columns; first += kStretch) {
    const int64_t last = std::min(columns, first + kStretch);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < last; ++i) {
      const T e = vector_exp(z[i] - maximum);
      if constexpr (kStore) z[i] = e;
      sum += e;
    }
    total += static_cast<double>(sum);
  }
  return total;
}

}  // namespace

template <class T>
void cross_entropy(const CrossEntropyParams<T>& p) {
#pragma omp parallel for if (p.rows * p.columns > 8192)
  for (int64_t row = 0; row < p.rows; ++row) {
    T* z = p.logits + row * p.logits_stride;
    const int32_t label = p.labels[row];
    if (label == p.ignore_index) {
      p.nll[row] = T(0);
      if (p.want_gradient) std::fill_n(z, p.columns, T(0));
      continue;
    }
    if (label < 0 || label >= p.columns) {
      p.nll[row] = std::numeric_limits<T>::quiet_NaN();
      if (p.want_gradient) std::fill_n(z, p.columns, std::numeric_limits<T>::quiet_NaN());
      continue;
    }
    const T maximum = maximum_of(z, p.columns);
    const double behind = static_cast<double>(maximum) - static_cast<double>(z[label]);
    const double sum = p.want_gradient ? exponential_sum<true>(z, p.columns, maximum)
                                       : exponential_sum<false>(z, p.columns, maximum);
    p.nll[row] = static_cast<T>(std::log(sum) + behind);
    if (!p.want_gradient) continue;
    // Probabilities that would end as denormals become 0: the products to come would crawl over them.
    const T factor = static_cast<T>(p.gradient_scale / sum);
    const T least = std::numeric_limits<T>::min() / factor;
#pragma omp simd
    for (int64_t i = 0; i < p.columns; ++i) z[i] = (z[i] < least ? T(0) : z[i]) * factor;
    z[label] -= static_cast<T>(p.gradient_scale);
  }
}

template void cross_entropy(const CrossEntropyParams<float>&);
template void cross_entropy(const CrossEntropyParams<double>&);

}  // namespace sluice::kernels::cpu
