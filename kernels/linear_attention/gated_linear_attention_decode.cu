// One step of generation: at most one token a sequence, so all there is to do is to move the state once.
#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/linear_attention/gated_linear_attention_recurrent.h"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int COLUMNS = 32, LANES = COLUMNS / 4;  // of the values; lanes that share a row of the state
constexpr int ROWS = THREADS / LANES;             // of the state, at a time

// One block a sequence, kv head and 32 columns of the values. States stream past the caches. PASSES * ROWS >=
// K: the whole tile is on its way before the first row is used.
template <class T, int PASSES>
__global__ void __launch_bounds__(THREADS) step(const __grid_constant__ GatedLinearAttentionForward<T> p) {
  __shared__ float k_row[PASSES * ROWS], decay[PASSES * ROWS], q_row[PASSES * ROWS];
  __shared__ float4 sums[WARPS][LANES];
  const int K = static_cast<int>(p.key_size), V = static_cast<int>(p.value_size);
  const int tiles = (V + COLUMNS - 1) / COLUMNS;
  const int column =
      static_cast<int>(blockIdx.x % tiles) * COLUMNS + static_cast<int>(threadIdx.x % LANES) * 4;
  const int kv_head = static_cast<int>(blockIdx.x / tiles % p.kv_heads);
  const int64_t s = blockIdx.x / tiles / p.kv_heads;
  const bool active = column < V;
  const int first_row = static_cast<int>(threadIdx.x) / LANES;
  const int64_t in = p.initial_state != nullptr ? p.state_in[s] : -1;
  const int64_t out = p.final_state != nullptr ? p.state_out[s] : -1;
  const auto tile_of = [&](auto* states, int64_t slot) {
    return states + (slot * p.kv_heads + kv_head) * K * V + column;
  };
  float4 state[PASSES];
#pragma unroll
  for (int i = 0; i < PASSES; ++i) {
    const int row = first_row + i * ROWS;
    state[i] = in >= 0 && active && row < K
                   ? __ldcs(reinterpret_cast<const float4*>(tile_of(p.initial_state, in) +
                                                            static_cast<int64_t>(row) * V))
                   : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
  const int64_t t = p.offsets[s];
  const bool has_token = p.offsets[s + 1] > t;
  float v[4] = {};
  if (has_token) {
    for (int i = static_cast<int>(threadIdx.x); i < PASSES * ROWS; i += THREADS) {
      k_row[i] = i < K ? as_float(p.k[t * p.k_stride + kv_head * K + i]) : 0.0f;
      decay[i] = i < K && p.g != nullptr ? expf(as_float(p.g[t * p.g_stride + kv_head * K + i])) : 1.0f;
    }
    if (active) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        v[e] = as_float(p.v[t * p.v_stride + static_cast<int64_t>(kv_head) * V + column + e]);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < PASSES; ++i) {
      const float a = decay[first_row + i * ROWS], k = k_row[first_row + i * ROWS];
      state[i].x = a * state[i].x + k * v[0], state[i].y = a * state[i].y + k * v[1];
      state[i].z = a * state[i].z + k * v[2], state[i].w = a * state[i].w + k * v[3];
    }
  }
  if (out >= 0 && active) {
#pragma unroll
    for (int i = 0; i < PASSES; ++i) {
      const int row = first_row + i * ROWS;
      if (row < K)
        __stcs(reinterpret_cast<float4*>(tile_of(p.final_state, out) + static_cast<int64_t>(row) * V),
               state[i]);
    }
  }
  if (!has_token) return;
  const int group = static_cast<int>(p.heads / p.kv_heads);
  const float scale = static_cast<float>(p.scale);
  for (int r = 0; r < group; ++r) {
    const int head = kv_head * group + r;
    for (int i = static_cast<int>(threadIdx.x); i < PASSES * ROWS; i += THREADS) {
      q_row[i] = i < K ? scale * as_float(p.q[t * p.q_stride + static_cast<int64_t>(head) * K + i]) : 0.0f;
    }
    __syncthreads();
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < PASSES; ++i) {
      const float q = q_row[first_row + i * ROWS];
      sum.x += q * state[i].x, sum.y += q * state[i].y, sum.z += q * state[i].z, sum.w += q * state[i].w;
    }
#pragma unroll
    for (int lanes = LANES; lanes < 32; lanes *= 2) {
      sum.x += __shfl_xor_sync(~0u, sum.x, lanes), sum.y += __shfl_xor_sync(~0u, sum.y, lanes);
      sum.z += __shfl_xor_sync(~0u, sum.z, lanes), sum.w += __shfl_xor_sync(~0u, sum.w, lanes);
    }
    if (threadIdx.x % 32 < LANES) sums[threadIdx.x / 32][threadIdx.x % 32] = sum;
    __syncthreads();
    if (threadIdx.x < LANES && active) {
      sum = sums[0][threadIdx.x];
      for (int w = 1; w < WARPS; ++w) {
        const float4 part = sums[w][threadIdx.x];
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
      }
      T* o = p.o + t * p.o_stride + static_cast<int64_t>(head) * V + column;
      o[0] = from_float<T>(sum.x), o[1] = from_float<T>(sum.y);
      o[2] = from_float<T>(sum.z), o[3] = from_float<T>(sum.w);
    }
  }
}

template <class T, int PASSES>
void launch_step(const GatedLinearAttentionForward<T>& p) {
  const int64_t blocks = p.sequences * p.kv_heads * ((p.value_size + COLUMNS - 1) / COLUMNS);
  step<T, PASSES><<<static_cast<unsigned>(blocks), THREADS, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("gated_linear_attention step");
}

}  // namespace

template <class T>
void run_step(const GatedLinearAttentionForward<T>& p) {
  if (p.sequences == 0) return;
  const int64_t passes = (p.key_size + ROWS - 1) / ROWS;
  if (passes <= 4) {
    launch_step<T, 4>(p);
  } else if (passes <= 8) {
    launch_step<T, 8>(p);
  } else {
    launch_step<T, 16>(p);  // K up to 512, as the plan sees to
  }
}

template void run_step(const GatedLinearAttentionForward<float>&);
template void run_step(const GatedLinearAttentionForward<bfloat16>&);

}  // namespace sluice::kernels::gla
