// What walks over states with keys as rows do beside the others: sums of two blocks become one, and the
// gradient of whole heads' gates gets its parts.
#pragma once

#include "kernels/linear_attention/gated_linear_attention_fused_walk.cuh"

namespace sluice::kernels::gla {

__device__ __forceinline__ uint32_t address_in_block(uint32_t address, int block) {
  uint32_t there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;\n" : "=r"(there) : "r"(address), "r"(block));
  return there;
}
__device__ __forceinline__ void store_16_in_cluster(uint32_t address, const float (&x)[4]) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"r"(address), "f"(x[0]), "f"(x[1]),
               "f"(x[2]), "f"(x[3])
               : "memory");
}
// As barrier_arrive_at and barrier_wait, also for ordinary writes to another block's shared memory.
__device__ __forceinline__ void barrier_release_at(uint32_t address) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];\n" ::"r"(address) : "memory");
}
__device__ __forceinline__ void barrier_acquire(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void store_4_if(bool wanted, float* to, float x) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %2, 0;\n@wanted st.global.f32 [%0], %1;\n}\n" ::"l"(to),
      "f"(x), "r"(static_cast<int>(wanted))
      : "memory");
}

// sums = 32 of the 64 tokens of out, both parts': each part keeps the tokens of its number. A thread's sums
// go to the same thread of the other block, and its warp's barrier there says when they are all in. Places
// and barriers are two and take turns: what comes for step n + 2 was sent after this warp was done with step
// n.
__device__ __forceinline__ void exchange_halves(float (&sums)[CHUNK / 4], const float (&out)[CHUNK / 2],
                                                uint32_t places, uint32_t barriers, int part, int step) {
  constexpr int BYTES = CONSUMERS * CHUNK / 4 * static_cast<int>(sizeof(float));
  const uint32_t here = places + (step & 1) * BYTES + (threadIdx.x - PRODUCERS) * 16;
  const uint32_t there = address_in_block(here, part ^ 1);
#pragma unroll
  for (int i = 0; i < CHUNK / 4; i += 4) {
    float other[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      other[e] = part == 0 ? out[CHUNK / 4 + i + e] : out[i + e];
      sums[i + e] = part == 0 ? out[i + e] : out[CHUNK / 4 + i + e];
    }
    store_16_in_cluster(there + i / 4 * CONSUMERS * 16, other);
  }
  const uint32_t arrived = barriers + ((step & 1) * EXCHANGE_WARPS + threadIdx.x / 32 - PRODUCERS / 32) * 8;
  __syncwarp();
  if ((threadIdx.x & 31) == 0) barrier_release_at(address_in_block(arrived, part ^ 1));
  barrier_acquire(arrived, step / 2 & 1);
#pragma unroll
  for (int i = 0; i < CHUNK / 4; i += 4) {
    float x[4];
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];\n"
                 : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3])
                 : "r"(here + i / 4 * CONSUMERS * 16)
                 : "memory");
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[i + e] += x[e];
  }
}

// Sums [16 keys, 2 COUNT tokens from token0 on] of a warp, times p.factor and the tokens' factors [64], to
// rows of tokens. to: the chunk's first row at the warp's keys. GATED: the sums lack the tokens' own part,
// which comes in here behind the totals.
template <class Shape, int COUNT>
__device__ __forceinline__ void store_gradient(const float (&sums)[COUNT], const float* factors,
                                               const Chunked& p, const FusedWalk& w, bfloat16* to,
                                               int64_t first_token, int64_t chunk_head, int head,
                                               int first_key, int token0, int rows) {
  const int lane = threadIdx.x & 31, pair = lane & 3, column = 8 * (pair % 2);
  const int keys = p.value_size, groups = (keys + VALUES - 1) / VALUES * (VALUES / 16);
#pragma unroll
  for (int t = 0; t < COUNT / 4; t += 2) {
    uint32_t x[4];
    [[maybe_unused]] uint32_t errors[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* at = sums + 4 * (t + i / 2) + 2 * (i % 2);
      const float2 of_tokens =
          *reinterpret_cast<const float2*>(factors + token0 + 8 * (t + i / 2) + 2 * pair);
      const float x0 = p.factor * of_tokens.x * at[0], x1 = p.factor * of_tokens.y * at[1];
      const uint32_t rounded = pack_bfloat16(x0, x1);
      x[i] = transpose_tile(rounded);
      if constexpr (Shape::GATED) {
        const float2 back = unpack_bfloat16(rounded);
        errors[i] = transpose_tile(pack_bfloat16(x0 - back.x, x1 - back.y));
      }
    }
    transpose_in_quad(x);
    const int row = token0 + 8 * t + 8 * (pair / 2) + (lane >> 2);
    const bool inside = row < rows && first_key + column < keys;
    if constexpr (Shape::GATED) {
      transpose_in_quad(errors);
      const HeadGateWalk& gate = w.gradient.head_gate;
      const auto piece_of = [&](const Rows& from) {  // some piece that is there, where `inside` is false
        const int64_t at =
            inside ? row * from.stride + static_cast<int64_t>(head) * keys + first_key + column : 0;
        return __ldg(reinterpret_cast<const uint4*>(from.data + first_token * from.stride + at));
      };
      const uint4 own = piece_of(gate.own), other = piece_of(gate.other);
      const uint32_t owns[4] = {own.x, own.y, own.z, own.w};
      const uint32_t others[4] = {other.x, other.y, other.z, other.w};
      const float diagonal = __ldg(gate.diagonal + chunk_head * CHUNK + row);
      float total = 0.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 high = unpack_bfloat16(x[i]), low = unpack_bfloat16(errors[i]);
        const float2 a = unpack_bfloat16(owns[i]), b = unpack_bfloat16(others[i]);
        const float x0 = high.x + low.x, x1 = high.y + low.y;
        total += a.x * x0 + a.y * x1;
        x[i] = pack_bfloat16(x0 + diagonal * b.x, x1 + diagonal * b.y);
      }
      total = inside ? total : 0.0f;
      total += __shfl_xor_sync(~0u, total, 1);
      store_4_if(pair % 2 == 0, gate.totals + (chunk_head * CHUNK + row) * groups + first_key / 16, total);
    }
    store_16_if(inside && w.to.data != nullptr, to + row * w.to.stride + column, x);
  }
}

// A thread's part of X as factors of the walk's products, in memory that the threads of all blocks share out.
template <class Shape>
__device__ __forceinline__ uint4* place_of_state(void* states, int64_t block_of_state, int warpgroup) {
  return static_cast<uint4*>(states) + (block_of_state * 2 + warpgroup) * (Shape::COLUMNS / 16) * 128 +
         (threadIdx.x & 127);
}
template <class Shape>
__device__ __forceinline__ void store_state(const float (&x)[Shape::COLUMNS / 2], void* states,
                                            int64_t block_of_state, int warpgroup) {
  uint4* to = place_of_state<Shape>(states, block_of_state, warpgroup);
#pragma unroll
  for (int panel = 0; panel < Shape::PANELS; ++panel) {
    uint32_t packed[4][4];
    pack_panel(packed, x, panel);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      to[(4 * panel + k) * 128] = make_uint4(packed[k][0], packed[k][1], packed[k][2], packed[k][3]);
    }
  }
}
// The sum of its products with X, in a warp's first lane.
template <class Shape>
__device__ __forceinline__ float dot_with_state(const float (&x)[Shape::COLUMNS / 2], const void* states,
                                                int64_t block_of_state, int warpgroup) {
  const uint4* from = place_of_state<Shape>(const_cast<void*>(states), block_of_state, warpgroup);
  float dot = 0.0f;
#pragma unroll
  for (int panel = 0; panel < Shape::PANELS; panel += 2) {  // two panels' pieces on their way at a time
    uint4 pieces[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) pieces[k] = from[(4 * panel + k) * 128];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const uint32_t pairs[4] = {pieces[k].x, pieces[k].y, pieces[k].z, pieces[k].w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 32 * panel + 8 * k + 4 * (i / 2) + 2 * (i % 2);
        const float2 s = unpack_bfloat16(pairs[i]);
        dot += s.x * x[at] + s.y * x[at + 1];
      }
    }
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) dot += __shfl_xor_sync(~0u, dot, lanes);
  return dot;
}

}  // namespace sluice::kernels::gla
