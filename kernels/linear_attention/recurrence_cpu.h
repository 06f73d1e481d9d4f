// What the two passes of the recurrence share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/vector_exp.h"

namespace sluice::kernels::cpu {

// A cache line of elements, for loops that the compiler does not vectorise well from scalars.
template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(64), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(64), may_alias));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int64_t kLanes = 64 / static_cast<int64_t>(sizeof(T));

template <class T>
Vector<T>* as_vectors(T* aligned) {
  return reinterpret_cast<Vector<T>*>(aligned);
}
template <class T>
const Vector<T>* as_vectors(const T* aligned) {
  return reinterpret_cast<const Vector<T>*>(aligned);
}

// One uninitialised stretch of memory a thread, each starting on a cache line.
template <class T>
class ThreadScratch {
 public:
  ThreadScratch(int threads, int64_t elements)
      : lines_each_((elements + kLanes<T> - 1) / kLanes<T>),
        lines_(std::make_unique_for_overwrite<Line[]>(static_cast<size_t>(threads * lines_each_))) {}
  T* of(int thread) const { return reinterpret_cast<T*>(lines_.get() + thread * lines_each_); }

 private:
  struct alignas(64) Line {
    T elements[kLanes<T>];
  };
  int64_t lines_each_;
  std::unique_ptr<Line[]> lines_;
};

// The decays of a token's K channels of one kv head.
template <class Params, class T>
void decays(const Params& p, int64_t token, int64_t kv_head, T* decay) {
  const int64_t K = p.key_size;
  if (p.g == nullptr) {
    const T g = p.head_g != nullptr       ? p.head_g[token * p.head_g_stride + kv_head]
                : p.constant_g != nullptr ? p.constant_g[kv_head]
                                          : T(0);
    std::fill_n(decay, K, vector_exp(g));
    return;
  }
  const T* g = p.g + token * p.g_stride + kv_head * K;
#pragma omp simd
  for (int64_t i = 0; i < K; ++i) decay[i] = vector_exp(g[i]);
}

// Below this many state updates starting threads costs more than they save.
constexpr int64_t kParallelUpdates = 65536;

}  // namespace sluice::kernels::cpu
