// Pieces of the walk of heads that decay as a whole: its places in shared memory, rows that get their factor
// there, sums of two blocks that become one, what it stores.
#pragma once

#include "kernels/linear_attention/gated_linear_attention_fused_walk.cuh"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {

enum class HeadMode {
  kUpdate,   // emits nothing: it wants the state at the segment's end
  kForward,  // emits o or dq
  kReverse,  // emits dv or dk
};
inline constexpr int EXCHANGE_WARPS = CONSUMERS / 32;

// X has COLUMNS columns; there may be less. PARTS: the columns of two blocks make one state, and what they
// emit is the sum of both. GATED: with HeadGateWalk.
template <int COLUMNS_, HeadMode MODE_, bool PARTS_, bool GATED_>
struct HeadShape {
  static constexpr HeadMode MODE = MODE_;
  static constexpr int COLUMNS = COLUMNS_;
  static constexpr bool PARTS = PARTS_, GATED = GATED_;
  static constexpr bool EMITS = MODE != HeadMode::kUpdate;
  static constexpr int PANELS = COLUMNS / PANEL;
  static constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES, HAT_PANEL_BYTES = HAT_ROWS * PANEL_ROW_BYTES;
  // Of two parts, each brings one of the scores' two.
  static constexpr int SCORES = PARTS ? 1 : 2;
  // A stage: hat of the update, W, factors; where the walk emits, rows for that and the scores.
  static constexpr int VALUE_PLACE = PANELS * HAT_PANEL_BYTES;
  static constexpr int FACTOR_PLACE = VALUE_PLACE + VALUES / PANEL * PANEL_BYTES;
  static constexpr int EMIT_PLACE = FACTOR_PLACE + 1024;
  static constexpr int SCORE_PLACE = EMIT_PLACE + PANELS * PANEL_BYTES;
  static constexpr int STAGE_BYTES = EMITS ? SCORE_PLACE + SCORES * PANEL_BYTES : EMIT_PLACE;
  static constexpr int FACTOR_BYTES = UPDATE_FACTORS * 4;
  static constexpr int BULK_BYTES = FACTOR_BYTES + (EMITS ? SCORES * PANEL_BYTES : 0);
  // Two places for sums of the other part, which it writes in turn.
  static constexpr int EXCHANGE_BYTES = PARTS && EMITS ? 2 * CONSUMERS * CHUNK : 0;
  static constexpr int FIT = 225 * 1024 / STAGE_BYTES, STAGES = FIT < 4 ? FIT : 4;
  static constexpr int EXCHANGE_PLACE = STAGES * STAGE_BYTES;
  static constexpr int BARRIER_PLACE = EXCHANGE_PLACE + EXCHANGE_BYTES;
  static constexpr int BYTES = BARRIER_PLACE + 16 * STAGES + (EXCHANGE_BYTES > 0 ? 16 * EXCHANGE_WARPS : 0);
  static_assert(STAGES >= 2 && STAGE_BYTES % 1024 == 0 && FACTOR_BYTES <= 1024 && BYTES <= 227 * 1024);
};

// Starts copying rows of COLUMNS columns to panels PANEL_BYTES apart, by the producers; zeros outside.
template <int COLUMNS, int PANEL_BYTES>
__device__ __forceinline__ void copy_rows(uint32_t tile, const bfloat16* from, int64_t stride, int rows,
                                          int columns) {
#pragma unroll
  for (int i = 0; i < COLUMNS / PANEL; ++i) {
    copy_panel<CHUNK, PRODUCERS>(tile + i * PANEL_BYTES, from + i * PANEL, stride, rows, columns - i * PANEL);
  }
}

// A producer's 16-byte pieces of a panel are rows first_piece_row() + 16 i.
inline constexpr int PIECE_ROWS = CHUNK / 16;
__device__ __forceinline__ int first_piece_row() { return static_cast<int>(threadIdx.x) / 8; }
// The pieces of hat that this thread copied, times their rows' factors. The rounding errors of LOW rows,
// those that decay least, go behind the panel's 64 rows.
template <class Shape>
__device__ __forceinline__ void scale_hat(uint32_t hat, const float (&factors)[PIECE_ROWS], bool reverse) {
  const int row0 = first_piece_row();
  uint32_t place = piece_address(hat, row0, static_cast<int>(threadIdx.x) % 8);
#pragma unroll
  for (int panel = 0; panel < Shape::PANELS; ++panel) {
#pragma unroll
    for (int i = 0; i < PIECE_ROWS; ++i) {
      uint32_t x[4], errors[4];
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];\n"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(place + i * 16 * PANEL_ROW_BYTES)
                   : "memory");
      const bool low = i == 0 ? reverse : i == PIECE_ROWS - 1 && !reverse;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 from = unpack_bfloat16(x[e]);
        const float x0 = factors[i] * from.x, x1 = factors[i] * from.y;
        x[e] = pack_bfloat16(x0, x1);
        if (i == 0 || i == PIECE_ROWS - 1) {
          const float2 back = unpack_bfloat16(x[e]);
          errors[e] = pack_bfloat16(x0 - back.x, x1 - back.y);
        }
      }
      const auto store = [](uint32_t to, const uint32_t(&piece)[4]) {
        asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"r"(to), "r"(piece[0]), "r"(piece[1]),
                     "r"(piece[2]), "r"(piece[3])
                     : "memory");
      };
      store(place + i * 16 * PANEL_ROW_BYTES, x);
      if (low) store(place + CHUNK * PANEL_ROW_BYTES, errors);
    }
    place += Shape::HAT_PANEL_BYTES;
  }
}

// X decays as a whole, panel by panel.
template <int COUNT>
__device__ __forceinline__ void decay_panel(float (&x)[COUNT], float decay, int panel) {
#pragma unroll
  for (int i = 32 * panel; i < 32 * panel + 32; ++i) x[i] *= decay;
}

// out += W^T P^T (of all tokens: P is zero where they are earlier), or in reverse W^T P, 16 tokens of W.
template <class Shape, int STEP>
__device__ __forceinline__ void add_scored_rows(float (&out)[CHUNK / 2], uint32_t values, uint32_t scores) {
  constexpr bool REVERSE = Shape::MODE == HeadMode::kReverse;
  constexpr int COUNT = REVERSE ? 16 * STEP + 16 : CHUNK;
  float(&part)[COUNT / 2] = reinterpret_cast<float(&)[COUNT / 2]>(out);
  const uint64_t a = wgmma_tile_along_rows(values + 16 * STEP * PANEL_ROW_BYTES, 0);
#pragma unroll
  for (int i = 0; i < Shape::SCORES; ++i) {
    const uint32_t tile = scores + i * CHUNK * PANEL_ROW_BYTES;
    if constexpr (REVERSE) {
      wgmma<1>(part, a, wgmma_tile_along_rows(tile + 16 * STEP * PANEL_ROW_BYTES, 0));
    } else {
      wgmma<0>(part, a, wgmma_tile_along_columns(tile + 32 * STEP));
    }
  }
}

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

// Sums [16 rows of X, 2 COUNT tokens from token0 on] of a warp, times w.factor and the tokens' factors [64],
// to memory. to: the chunk's first token at the warp's rows of X. GATED: the sums lack the tokens' own part,
// which comes in here behind the totals.
template <class Shape, int COUNT>
__device__ __forceinline__ void store_emitted(const float (&sums)[COUNT], const float* factors,
                                              const HeadWalk& w, bfloat16* to, int64_t first_token,
                                              int64_t chunk_head, int head, int first_row, int token0,
                                              int tokens) {
  const int lane = threadIdx.x & 31, pair = lane & 3, column = 8 * (pair % 2);
  const int groups = (w.rows + VALUES - 1) / VALUES * (VALUES / 16);
#pragma unroll
  for (int t = 0; t < COUNT / 4; t += 2) {
    uint32_t x[4];
    [[maybe_unused]] uint32_t errors[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* at = sums + 4 * (t + i / 2) + 2 * (i % 2);
      const float2 of_tokens =
          *reinterpret_cast<const float2*>(factors + token0 + 8 * (t + i / 2) + 2 * pair);
      const float x0 = w.factor * of_tokens.x * at[0], x1 = w.factor * of_tokens.y * at[1];
      const uint32_t rounded = pack_bfloat16(x0, x1);
      x[i] = transpose_tile(rounded);
      if constexpr (Shape::GATED) {
        const float2 back = unpack_bfloat16(rounded);
        errors[i] = transpose_tile(pack_bfloat16(x0 - back.x, x1 - back.y));
      }
    }
    transpose_in_quad(x);
    const int token = token0 + 8 * t + 8 * (pair / 2) + (lane >> 2);
    const bool inside = token < tokens && first_row + column < w.rows;
    if constexpr (Shape::GATED) {
      transpose_in_quad(errors);
      const HeadGateWalk& gate = w.head_gate;
      const auto piece_of = [&](const Rows& from) {  // some piece that is there, where `inside` is false
        const int64_t at =
            inside ? token * from.stride + static_cast<int64_t>(head) * w.rows + first_row + column : 0;
        return __ldg(reinterpret_cast<const uint4*>(from.data + first_token * from.stride + at));
      };
      const uint4 own = piece_of(gate.own), other = piece_of(gate.other);
      const uint32_t owns[4] = {own.x, own.y, own.z, own.w};
      const uint32_t others[4] = {other.x, other.y, other.z, other.w};
      const float diagonal = __ldg(gate.diagonal + chunk_head * CHUNK + token);
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
      store_4_if(pair % 2 == 0, gate.totals + (chunk_head * CHUNK + token) * groups + first_row / 16, total);
    }
    store_16_if(inside && w.to.data != nullptr, to + token * w.to.stride + column, x);
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
