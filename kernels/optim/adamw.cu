#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/multiprocessors.h"
#include "kernels/optim/adamw.h"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 256;
constexpr int N = 4;         // elements of a pack
constexpr int TOGETHER = 2;  // packs of a thread whose loads are on their way together
constexpr int TILE = THREADS * N * TOGETHER;
constexpr int BLOCKS_PER_MULTIPROCESSOR = 8;

struct Constants {
  float beta1, beta2, rest1, rest2, eps, factor, kept, step, root;
};

// As in the CPU kernel, 1 - beta is taken in double.
__device__ Constants constants_of(const AdamWParams<float>& p, const UpdateControl& control,
                                  double weight_decay) {
  return {static_cast<float>(p.beta1),
          static_cast<float>(p.beta2),
          static_cast<float>(1 - p.beta1),
          static_cast<float>(1 - p.beta2),
          static_cast<float>(p.eps),
          static_cast<float>(control.gradient_factor),
          static_cast<float>(1 - p.lr * weight_decay),
          static_cast<float>(p.lr / control.correction1),
          static_cast<float>(1 / sqrt(control.correction2))};
}

struct Element {
  float weight, m, v;
};

__device__ __forceinline__ Element updated(const Constants& c, float gradient, Element old) {
  const float g = gradient * c.factor;
  Element now;
  now.m = c.beta1 * old.m + c.rest1 * g;
  now.v = c.beta2 * old.v + c.rest2 * g * g;
  now.weight = c.kept * old.weight - c.step * now.m / (sqrtf(now.v) * c.root + c.eps);
  return now;
}

__device__ __forceinline__ void update_one(const AdamWParams<float>& p, const Constants& c, int64_t i) {
  const Element now = updated(c, p.gradient[i], {p.weight[i], p.m[i], p.v[i]});
  p.m[i] = now.m;
  p.v[i] = now.v;
  p.weight[i] = now.weight;
  if (p.compute_weight != nullptr) p.compute_weight[i] = from_float<bfloat16>(now.weight);
}

struct Packs {
  Pack<float, N> gradient, weight, m, v;
};

__device__ __forceinline__ void update_pack(const AdamWParams<float>& p, const Constants& c, int64_t at,
                                            Packs& packs) {
  Pack<bfloat16, N> rounded;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const Element now = updated(c, packs.gradient[i], {packs.weight[i], packs.m[i], packs.v[i]});
    packs.m.set(i, now.m);
    packs.v.set(i, now.v);
    packs.weight.set(i, now.weight);
    rounded.set(i, now.weight);
  }
  packs.m.store(p.m + at);
  packs.v.store(p.v + at);
  packs.weight.store(p.weight + at);
  if (p.compute_weight != nullptr) rounded.store(p.compute_weight + at);
}

// The elements [first, first + TILE) that lie in [begin, end); first is a multiple of N.
template <bool kPacked>
__device__ __forceinline__ void update_tile(const AdamWParams<float>& p, const Constants& c, int64_t first,
                                            int64_t begin, int64_t end) {
  Packs packs[TOGETHER];
  bool whole[TOGETHER];
#pragma unroll
  for (int u = 0; u < TOGETHER; ++u) {
    const int64_t at = first + (u * THREADS + threadIdx.x) * N;
    whole[u] = kPacked && at >= begin && at + N <= end;
    if (!whole[u]) continue;
    packs[u].gradient = Pack<float, N>::load(p.gradient + at);
    packs[u].weight = Pack<float, N>::load(p.weight + at);
    packs[u].m = Pack<float, N>::load(p.m + at);
    packs[u].v = Pack<float, N>::load(p.v + at);
  }
#pragma unroll
  for (int u = 0; u < TOGETHER; ++u) {
    const int64_t at = first + (u * THREADS + threadIdx.x) * N;
    if (whole[u]) {
      update_pack(p, c, at, packs[u]);
      continue;
    }
    for (int64_t i = at; i < at + N; ++i) {
      if (i >= begin && i < end) update_one(p, c, i);
    }
  }
}

// Tiles of all segments are dealt out in turn; each block walks the list of segments once.
template <bool kPacked>
__global__ void __launch_bounds__(THREADS) update_segments(const __grid_constant__ AdamWParams<float> p) {
  const UpdateControl control = *p.control;
  if (control.skip != 0) return;
  int64_t mine = blockIdx.x, passed = 0;
  for (int64_t s = 0; s < p.segment_count; ++s) {
    const AdamWSegment segment = p.segments[s];
    if (segment.end <= segment.begin) continue;
    const int64_t start = segment.begin / N * N;
    const int64_t tiles = (segment.end - start + TILE - 1) / TILE;
    if (mine < passed + tiles) {
      const Constants c = constants_of(p, control, segment.weight_decay);
      for (; mine < passed + tiles; mine += gridDim.x) {
        update_tile<kPacked>(p, c, start + (mine - passed) * TILE, segment.begin, segment.end);
      }
    }
    passed += tiles;
  }
}

}  // namespace

namespace cuda {

template <>
void adamw(const AdamWParams<float>& p) {
  if (p.segment_count <= 0) return;
  const bool packable = can_pack<N>(p.gradient, 0, 0) && can_pack<N>(p.weight, 0, 0) &&
                        can_pack<N>(p.m, 0, 0) && can_pack<N>(p.v, 0, 0) &&
                        can_pack<N>(p.compute_weight, 0, 0);
  const int blocks = multiprocessors() * BLOCKS_PER_MULTIPROCESSOR;
  if (packable) {
    update_segments<true><<<blocks, THREADS, 0, p.stream>>>(p);
  } else {
    update_segments<false><<<blocks, THREADS, 0, p.stream>>>(p);
  }
  SLUICE_CHECK_LAUNCH("adamw");
}

}  // namespace cuda
}  // namespace sluice::kernels
