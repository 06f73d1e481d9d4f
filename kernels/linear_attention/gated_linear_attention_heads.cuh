// Pieces of the walk of heads that decay as a whole: its places in shared memory, the scores inside a chunk,
// rows that get their factors, sums of two blocks that become one, what it stores.
#pragma once

#include "kernels/common/tensor_copy.cuh"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.cuh"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {

enum class HeadMode {
  kUpdate,   // emits nothing: it wants the state at the segment's end
  kOutput,   // emits o; may first walk what lies before its segment, for the state alone
  kForward,  // emits dq
  kReverse,  // emits dv or dk
};
inline constexpr int EXCHANGE_WARPS = CONSUMERS / 32;

// Floats of a chunk and head: 64 factors of what is emitted, 64 of the update, e^bC.
inline constexpr int EMIT_FACTORS = 0, UPDATE_FACTORS = CHUNK, HEAD_DECAY = 2 * CHUNK;
// Scores come without the factor that their emitted token gets when it is stored, and grow as that is small.
// A decay below e^-62 makes nothing of the state that a float could hold beside the rest; there the factor
// stays with the scores, which keeps them in range.
inline constexpr float LARGEST_DECAY = -90.0f;  // of two

// X has COLUMNS columns; there may be less. PARTS: the columns of two blocks make one state, and what they
// emit is the sum of both; so are the scores, which each takes from its own columns.
template <int COLUMNS_, HeadMode MODE_, bool PARTS_>
struct HeadShape {
  static constexpr HeadMode MODE = MODE_;
  static constexpr int COLUMNS = COLUMNS_;
  static constexpr bool PARTS = PARTS_;
  static constexpr bool EMITS = MODE != HeadMode::kUpdate, LEADS = MODE == HeadMode::kOutput;
  static constexpr int PANELS = COLUMNS / PANEL;
  static constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES;
  // A producer and two consumers have 504 in all, as the block starts with.
  static constexpr int CONSUMER_REGISTERS = PANELS > 2 ? 216 : 192;
  static constexpr int PRODUCER_REGISTERS = 504 - 2 * CONSUMER_REGISTERS;
  // A stage: rows for the update, W, factors; where the walk emits, rows for that and the scores, rounded and
  // what the rounding took off.
  static constexpr int VALUE_PLACE = PANELS * PANEL_BYTES;
  static constexpr int FACTOR_PLACE = VALUE_PLACE + VALUES / PANEL * PANEL_BYTES;
  static constexpr int EMIT_PLACE = FACTOR_PLACE + 1024;
  static constexpr int SCORE_PLACE = EMIT_PLACE + PANELS * PANEL_BYTES;
  static constexpr int STAGE_BYTES = EMITS ? SCORE_PLACE + 2 * PANEL_BYTES : EMIT_PLACE;
  static constexpr int ROW_BYTES = FACTOR_PLACE, EMIT_ROW_BYTES = FACTOR_PLACE + PANELS * PANEL_BYTES;
  // Two places for sums of the other part, which it writes in turn.
  static constexpr int EXCHANGE_BYTES = PARTS && EMITS ? 2 * CONSUMERS * CHUNK : 0;
  static constexpr int FIT = 225 * 1024 / STAGE_BYTES, STAGES = FIT < 4 ? FIT : 4;
  static constexpr int EXCHANGE_PLACE = STAGES * STAGE_BYTES;
  static constexpr int BARRIER_PLACE = EXCHANGE_PLACE + EXCHANGE_BYTES;
  static constexpr int BYTES = BARRIER_PLACE + 24 * STAGES + (EXCHANGE_BYTES > 0 ? 16 * EXCHANGE_WARPS : 0);
  static_assert(STAGES >= 2 && STAGE_BYTES % 1024 == 0 && BYTES <= 227 * 1024);
};

// segment_of_slot where blocks walk what lies before their segments themselves: as many slots for each
// sequence, whose last segment takes all that is left.
__device__ __forceinline__ bool leading_segment(Segment& segment, const Chunked& p, const HeadWalk& w,
                                                int64_t slot) {
  const int64_t most = w.slots / p.sequences;
  segment.sequence = slot / most, segment.index = static_cast<int>(slot % most);
  const int64_t begin = p.chunk_offsets[segment.sequence], before = segment.index * w.segment_chunks;
  const int64_t left = p.chunk_offsets[segment.sequence + 1] - begin - before;
  if (segment.index > 0 && left <= 0) return false;
  const bool is_last = segment.index + 1 == most || left <= w.segment_chunks;
  segment.segments = is_last ? segment.index + 1 : static_cast<int>(most);
  segment.first_chunk = begin + before;
  segment.chunks = static_cast<int>(is_last ? left : w.segment_chunks);
  segment.first_token = p.offsets[segment.sequence] + before * CHUNK;
  segment.tokens = p.offsets[segment.sequence + 1] - segment.first_token;
  return true;
}

// Starts copying a chunk's rows of COLUMNS columns from `column` of a head on to panels, by one thread; zeros
// behind the head's columns. Their bytes count at the barrier.
template <int COLUMNS>
__device__ __forceinline__ void copy_head_rows(uint32_t tile, const CUtensorMap& map, int column, int head,
                                               int64_t token, uint32_t barrier) {
#pragma unroll
  for (int i = 0; i < COLUMNS / PANEL; ++i) {
    copy_box(tile + i * CHUNK * PANEL_ROW_BYTES, &map, column + i * PANEL, head, static_cast<int>(token),
             barrier);
  }
}
// The same by all producers, zeros in rows, too, that the sequence does not have.
template <int COLUMNS>
__device__ __forceinline__ void copy_rows(uint32_t tile, const bfloat16* from, int64_t stride, int rows,
                                          int columns) {
#pragma unroll
  for (int i = 0; i < COLUMNS / PANEL; ++i) {
    copy_panel<CHUNK, PRODUCERS>(tile + i * CHUNK * PANEL_ROW_BYTES, from + i * PANEL, stride, rows,
                                 columns - i * PANEL);
  }
}

// A chunk's gates in a warp: those of tokens 2 lane, + 1, and their running sums, in powers of two.
struct HeadSums {
  float b[2];
  float total;

  __device__ __forceinline__ explicit HeadSums(const float (&g)[2]) {
    const int lane = threadIdx.x & 31;
    float sum = g[0] + g[1];
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const float before = __shfl_up_sync(~0u, sum, lanes);
      if (lane >= lanes) sum += before;
    }
    const float sum_before = __shfl_up_sync(~0u, sum, 1);
    b[0] = (lane > 0 ? sum_before : 0.0f) + g[0], b[1] = sum;
    total = __shfl_sync(~0u, sum, 31);
  }
  // b of any token, to each lane of its own.
  __device__ __forceinline__ float of(int token) const {
    const float even = __shfl_sync(~0u, b[0], token >> 1), odd = __shfl_sync(~0u, b[1], token >> 1);
    return token & 1 ? odd : even;
  }
  // Exponents of the factor that an emitted token gets in the end, and of the one in the update.
  __device__ __forceinline__ float of_emitted(float b_token, bool reverse) const {
    return fmaxf(reverse ? total - b_token : b_token, LARGEST_DECAY);
  }
  __device__ __forceinline__ float of_update(float b_token, bool reverse) const {
    return reverse ? b_token : total - b_token;
  }
  __device__ __forceinline__ void store_factors(float* to, bool reverse) const {
    const int lane = threadIdx.x & 31;
    *reinterpret_cast<float2*>(to + EMIT_FACTORS + 2 * lane) =
        make_float2(power_of_two(of_emitted(b[0], reverse)), power_of_two(of_emitted(b[1], reverse)));
    *reinterpret_cast<float2*>(to + UPDATE_FACTORS + 2 * lane) =
        make_float2(power_of_two(of_update(b[0], reverse)), power_of_two(of_update(b[1], reverse)));
    if (lane == 0) to[HEAD_DECAY] = power_of_two(total);
  }
};

// Products [64 queries, 64 keys] of the producers become scores in shared memory, a panel each of rounded
// values and what the rounding took off; zero where the key is later.
__device__ __forceinline__ void store_scores(const float (&products)[CHUNK / 2], const HeadSums& sums,
                                             uint32_t to, bool reverse) {
  const int lane = threadIdx.x & 31, group = lane >> 2, pair = lane & 3;
  const int row0 = static_cast<int>(threadIdx.x) / 32 * 16 + group;
  const float b_query[2] = {sums.of(row0), sums.of(row0 + 8)};
#pragma unroll
  for (int t = 0; t < CHUNK / 8; ++t) {
    const int source = 4 * t + pair;  // has the gates of columns 8 t + 2 pair, + 1
    const float b_key[2] = {__shfl_sync(~0u, sums.b[0], source), __shfl_sync(~0u, sums.b[1], source)};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + 8 * half, column = 8 * t + 2 * pair;
      float x[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float emitted = sums.of_emitted(reverse ? b_key[e] : b_query[half], reverse);
        const float factor = power_of_two(b_query[half] - b_key[e] - emitted);
        x[e] = column + e <= row ? products[4 * t + 2 * half + e] * factor : 0.0f;
      }
      const uint32_t rounded = pack_bfloat16(x[0], x[1]);
      const float2 back = unpack_bfloat16(rounded);
      const uint32_t error = pack_bfloat16(x[0] - back.x, x[1] - back.y);
      const uint32_t place = piece_address(to, row, t) + 4 * pair;
      asm volatile("st.shared.b32 [%0], %1;\nst.shared.b32 [%0 + %3], %2;\n" ::"r"(place), "r"(rounded),
                   "r"(error), "n"(CHUNK * PANEL_ROW_BYTES)
                   : "memory");
    }
  }
}

// W^T of 16 tokens, a warp's 16 rows of X, times the tokens' factors; and what the rounding takes off.
__device__ __forceinline__ void scale_values(uint32_t (&rounded)[4], uint32_t (&errors)[4],
                                             const float* factors) {
  const int pair = threadIdx.x & 3;
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // tokens 2 pair, + 1, and these + 8
    const float2 factor = *reinterpret_cast<const float2*>(factors + 2 * pair + 8 * (i / 2));
    const float2 w = unpack_bfloat16(rounded[i]);
    const float x = w.x * factor.x, y = w.y * factor.y;
    rounded[i] = pack_bfloat16(x, y);
    const float2 back = unpack_bfloat16(rounded[i]);
    errors[i] = pack_bfloat16(x - back.x, y - back.y);
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
  for (int i = 0; i < 2; ++i) {
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
  if (ARRIVALS_OF_WARP > 1 || (threadIdx.x & 31) == 0) {
    barrier_release_at(address_in_block(arrived, part ^ 1));
  }
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
// to memory. to: the chunk's first token at the warp's rows of X.
template <int COUNT>
__device__ __forceinline__ void store_emitted(const float (&sums)[COUNT], const float* factors,
                                              const HeadWalk& w, bfloat16* to, int first_row, int token0,
                                              int tokens) {
  const int lane = threadIdx.x & 31, pair = lane & 3, column = 8 * (pair % 2);
#pragma unroll
  for (int t = 0; t < COUNT / 4; t += 2) {
    uint32_t x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* at = sums + 4 * (t + i / 2) + 2 * (i % 2);
      const float2 of_tokens =
          *reinterpret_cast<const float2*>(factors + token0 + 8 * (t + i / 2) + 2 * pair);
      x[i] = transpose_tile(pack_bfloat16(w.factor * of_tokens.x * at[0], w.factor * of_tokens.y * at[1]));
    }
    transpose_in_quad(x);
    const int token = token0 + 8 * t + 8 * (pair / 2) + (lane >> 2);
    const bool inside = token < tokens && first_row + column < w.rows;
    store_16_if(inside && w.to.data != nullptr, to + token * w.to.stride + column, x);
  }
}

}  // namespace sluice::kernels::gla
