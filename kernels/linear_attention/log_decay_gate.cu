#include "kernels/linear_attention/log_decay_gate.h"

#include "kernels/common/math.cuh"
#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

// Both passes must round alike, so that a value on the clamp is judged the same.
template <class T>
__device__ __forceinline__ float unclamped(float a, float inverse_normalizer) {
  return -softplus<T>(-a) * inverse_normalizer;
}

template <class T>
struct Forward {
  LogDecayGateForward<T> p;
  float inverse_normalizer, clamp_min;

  template <int N>
  struct Loaded {
    Pack<T, N> a;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    return {Pack<T, N>::load(p.a + row * p.a_stride + column)};
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float g[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float value = unclamped<T>(loaded.a[i], inverse_normalizer);
      g[i] = value < clamp_min ? clamp_min : value;  // NaN stays
    }
    Pack<T, N>::of(g).store(p.g + row * p.g_stride + column);
  }
};

template <class T>
struct Backward {
  LogDecayGateBackward<T> p;
  float inverse_normalizer, clamp_min;

  template <int N>
  struct Loaded {
    Pack<T, N> a, dg, da;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    Loaded<N> loaded;
    loaded.a = Pack<T, N>::load(p.a + row * p.a_stride + column);
    loaded.dg = Pack<T, N>::load(p.dg + row * p.dg_stride + column);
    if (p.accumulate_da) loaded.da = Pack<T, N>::load(p.da + row * p.da_stride + column);
    return loaded;
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    float da[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float a = loaded.a[i];
      float gradient = loaded.dg[i] * sigmoid<T>(-a) * inverse_normalizer;
      if (unclamped<T>(a, inverse_normalizer) < clamp_min) gradient = 0;
      da[i] = p.accumulate_da ? loaded.da[i] + gradient : gradient;
    }
    Pack<T, N>::of(da).store(p.da + row * p.da_stride + column);
  }
};

}  // namespace

namespace cuda {

template <class T>
void log_decay_gate_forward(const LogDecayGateForward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.a, p.a_stride, p.columns) && can_pack<N>(p.g, p.g_stride, p.columns);
  const Forward<T> body{p, static_cast<float>(1 / p.normalizer), static_cast<float>(p.clamp_min)};
  launch_rows<T>(body, p.rows, p.columns, packable, p.stream, "log_decay_gate_forward");
}

template <class T>
void log_decay_gate_backward(const LogDecayGateBackward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable = can_pack<N>(p.a, p.a_stride, p.columns) &&
                        can_pack<N>(p.dg, p.dg_stride, p.columns) &&
                        can_pack<N>(p.da, p.da_stride, p.columns);
  const Backward<T> body{p, static_cast<float>(1 / p.normalizer), static_cast<float>(p.clamp_min)};
  launch_rows<T>(body, p.rows, p.columns, packable, p.stream, "log_decay_gate_backward");
}

template void log_decay_gate_forward(const LogDecayGateForward<float>&);
template void log_decay_gate_forward(const LogDecayGateForward<bfloat16>&);
template void log_decay_gate_backward(const LogDecayGateBackward<float>&);
template void log_decay_gate_backward(const LogDecayGateBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
