// Pieces of the fused walk: its places in shared memory, a block's share of the work, registers to memory and
// back.
#pragma once

#include "kernels/common/mbarrier.cuh"
#include "kernels/common/wgmma.cuh"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.h"

namespace sluice::kernels::gla {

// What a walk does at each chunk beside carrying the state.
enum class WalkMode {
  kUpdate,  // nothing: it wants the state at the segment's end
  kStates,  // stores the state
  kOutput,  // emits o
  kValues,  // emits dv and stores the state
  // With keys as rows of X and values as columns, for heads that decay as a whole:
  kQueries,  // emits dq
  kKeys,     // in reverse, emits dk
};

inline constexpr int VALUES = FUSED_WALK_VALUES;  // rows of X a block carries, half of them a warpgroup
inline constexpr int PRODUCERS = 128, CONSUMERS = 256;
inline constexpr int EXCHANGE_WARPS = CONSUMERS / 32;

// X has COLUMNS columns; there may be less. PARTS: the columns of two blocks make one state, and what they
// emit is the sum of both. GATED: with HeadGateWalk. ALONE: a block shares no tiles with another of its
// cluster.
template <int COLUMNS_, WalkMode MODE_, bool PARTS_ = false, bool GATED_ = false, bool ALONE_ = PARTS_>
struct WalkShape {
  static constexpr WalkMode MODE = MODE_;
  static constexpr int COLUMNS = COLUMNS_;
  static constexpr bool PARTS = PARTS_, GATED = GATED_, ALONE = ALONE_;
  // Whether rows of X are keys.
  static constexpr bool OF_KEYS = MODE == WalkMode::kQueries || MODE == WalkMode::kKeys;
  static constexpr bool EMITS = OF_KEYS || MODE == WalkMode::kOutput || MODE == WalkMode::kValues;
  static constexpr bool STORES = MODE == WalkMode::kStates || MODE == WalkMode::kValues;
  static constexpr bool REVERSED = MODE == WalkMode::kValues || MODE == WalkMode::kKeys;
  // Whether tokens of what it emits come in flipped blocks: add_scored_values.
  static constexpr bool FLIPPED = MODE == WalkMode::kOutput;
  static constexpr int PANELS = COLUMNS / PANEL;
  static constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES, HAT_PANEL_BYTES = HAT_ROWS * PANEL_ROW_BYTES;
  // Of two parts, each brings one of the scores' two.
  static constexpr int SCORES = PARTS ? 1 : 2;
  // A stage: hat of the update, W, decays; where the walk emits, the other hat and the scores.
  static constexpr int VALUE_PLACE = PANELS * HAT_PANEL_BYTES;
  static constexpr int DECAY_PLACE = VALUE_PLACE + VALUES / PANEL * PANEL_BYTES;
  static constexpr int EMIT_PLACE = DECAY_PLACE + 1024;
  static constexpr int SCORE_PLACE = EMIT_PLACE + PANELS * PANEL_BYTES;
  static constexpr int STAGE_BYTES = EMITS ? SCORE_PLACE + SCORES * PANEL_BYTES : EMIT_PLACE;
  static constexpr int DECAY_BYTES = 4 * (OF_KEYS ? ROW_FACTORS : COLUMNS);
  static constexpr int SHARED_BYTES = STAGE_BYTES - 1024 + DECAY_BYTES - VALUES / PANEL * PANEL_BYTES -
                                      (OF_KEYS ? PANELS * PANEL_BYTES : 0);  // in bulk copies
  // Two places for sums of the other part, which it writes in turn.
  static constexpr int EXCHANGE_BYTES = PARTS && EMITS ? 2 * CONSUMERS * CHUNK : 0;
  static constexpr int FIT = 225 * 1024 / STAGE_BYTES, STAGES = FIT < 4 ? FIT : 4;
  static constexpr int EXCHANGE_PLACE = STAGES * STAGE_BYTES;
  static constexpr int BARRIER_PLACE = EXCHANGE_PLACE + EXCHANGE_BYTES;
  static constexpr int BYTES = BARRIER_PLACE + 16 * STAGES + (EXCHANGE_BYTES > 0 ? 16 * EXCHANGE_WARPS : 0);
  static_assert(STAGES >= 2 && STAGE_BYTES % 1024 == 0 && DECAY_BYTES <= 1024 && BYTES <= 227 * 1024);
};

// A block's part of a sequence: chunks [first, first + count) of all, the index-th segment of `segments`.
struct Segment {
  int64_t sequence, first_chunk, first_token, tokens;
  int chunks, index, segments;
};

// Slot of a sequence's first segment. Sequences of n chunks own enough slots for their segments, and at least
// one.
__device__ __forceinline__ int64_t first_slot(int64_t chunk_offset, int64_t sequence,
                                              int64_t segment_chunks) {
  return chunk_offset / segment_chunks + sequence;
}
// False: the slot has no segment.
__device__ __forceinline__ bool segment_of_slot(Segment& segment, const Chunked& p, int64_t segment_chunks,
                                                int64_t slot) {
  int64_t low = 0, high = p.sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (first_slot(p.chunk_offsets[middle], middle, segment_chunks) <= slot) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const int64_t begin = p.chunk_offsets[low], chunks = p.chunk_offsets[low + 1] - begin;
  const int64_t segments = (chunks + segment_chunks - 1) / segment_chunks;
  segment.index = static_cast<int>(slot - first_slot(begin, low, segment_chunks));
  segment.segments = segments > 0 ? static_cast<int>(segments) : 1;
  if (segment.index >= segment.segments) return false;
  const int64_t before = segment.index * segment_chunks, left = chunks - before;
  segment.sequence = low;
  segment.first_chunk = begin + before;
  segment.chunks = static_cast<int>(left < segment_chunks ? left : segment_chunks);
  segment.first_token = p.offsets[low] + before * CHUNK;
  segment.tokens = p.offsets[low + 1] - segment.first_token;
  return true;
}

// A chunk's tiles that all rows of X share, as prepare left them, into a stage: by one thread of each of the
// cluster's blocks, which copy every other tile, each to all. chunk_head: also counts parts.
template <class Shape>
__device__ __forceinline__ void copy_shared_tiles(uint32_t stage, uint32_t barrier, const Chunked& p,
                                                  const FusedWalk& w, int64_t chunk_head, int block,
                                                  int blocks) {
  barrier_arrive_for_bytes(barrier, Shape::SHARED_BYTES);
  const auto copy = [&](int turn, int place, const void* from, int bytes) {
    if (Shape::ALONE || blocks == 1) {
      copy_bulk(stage + place, from, bytes, barrier);
    } else if (turn % 2 == block) {
      copy_bulk_to_cluster(stage + place, from, bytes, barrier, 3);
    }
  };
  constexpr int HAT = HAT_ROWS * PANEL;
#pragma unroll
  for (int i = 0; i < Shape::PANELS; ++i) {
    const int64_t at = (chunk_head * Shape::PANELS + i) * HAT;
    if constexpr (Shape::EMITS && !Shape::OF_KEYS)
      copy(i, Shape::EMIT_PLACE + i * Shape::PANEL_BYTES, w.emit_hat + at, Shape::PANEL_BYTES);
    copy(i + 1, i * Shape::HAT_PANEL_BYTES, w.hat + at, Shape::HAT_PANEL_BYTES);
  }
  if constexpr (Shape::EMITS) {
#pragma unroll
    for (int i = 0; i < Shape::SCORES; ++i) {
      const bfloat16* scores = Shape::OF_KEYS ? w.gradient.scores : p.scores;
      copy(i, Shape::SCORE_PLACE + i * Shape::PANEL_BYTES,
           scores + (chunk_head * Shape::SCORES + i) * CHUNK * CHUNK, Shape::PANEL_BYTES);
    }
  }
  const float* decay = Shape::OF_KEYS
                           ? w.gradient.row_factors + chunk_head / (Shape::PARTS ? 2 : 1) * ROW_FACTORS
                           : p.decay + chunk_head * Shape::COLUMNS;
  copy_bulk(stage + Shape::DECAY_PLACE, decay, Shape::DECAY_BYTES, barrier);
}
// Its rows of W, by the producers; or others.
template <int COLUMNS = VALUES>
__device__ __forceinline__ void copy_values(uint32_t tile, const bfloat16* values, int64_t stride, int rows,
                                            int columns) {
#pragma unroll
  for (int i = 0; i < COLUMNS / PANEL; ++i) {
    copy_panel<CHUNK, PRODUCERS>(tile + i * CHUNK * PANEL_ROW_BYTES, values + i * PANEL, stride, rows,
                                 columns - i * PANEL);
  }
}

// 16 bytes to global memory where `wanted`, without a branch: across one the compiler waits for wgmma.
__device__ __forceinline__ void store_16_if(bool wanted, void* to, const uint32_t (&x)[4]) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %5, 0;\n"
      "@wanted st.global.v4.b32 [%0], {%1, %2, %3, %4};\n}\n" ::"l"(to),
      "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(static_cast<int>(wanted))
      : "memory");
}

// An 8 x 8 tile of pairs in the lanes' order of fragments, transposed.
__device__ __forceinline__ uint32_t transpose_tile(uint32_t pair) {
  uint32_t transposed;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(transposed) : "r"(pair));
  return transposed;
}

// Sums [16 values, 64 tokens] of a warp, times factor, to rows of tokens. to: the first token's first value.
// FLIPPED: blocks of 16 tokens come last first.
template <bool FLIPPED>
__device__ __forceinline__ void store_transposed(const float (&sums)[CHUNK / 2], float factor, bfloat16* to,
                                                 int64_t stride, int rows, int columns) {
  const int lane = threadIdx.x & 31, pair = lane & 3, column = 8 * (pair % 2);
  int row = 8 * (pair / 2) + (lane >> 2) + (FLIPPED ? CHUNK - 16 : 0);
  to += row * stride + column;
#pragma unroll
  for (int t = 0; t < CHUNK / 8; t += 2) {
    uint32_t x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* at = sums + 4 * (t + i / 2) + 2 * (i % 2);
      x[i] = transpose_tile(pack_bfloat16(factor * at[0], factor * at[1]));
    }
    transpose_in_quad(x);
    store_16_if(row < rows && column < columns, to, x);
    row += FLIPPED ? -16 : 16, to += FLIPPED ? -16 * stride : 16 * stride;
  }
}

// A panel of X^T as factors of four products.
template <int COUNT>
__device__ __forceinline__ void pack_panel(uint32_t (&a)[4][4], const float (&x)[COUNT], int panel) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = 32 * panel + 8 * k + 4 * (i / 2) + 2 * (i % 2);
      a[k][i] = pack_bfloat16(x[at], x[at + 1]);
    }
  }
}
// The same panel to memory as factors of S, see StateFragments: every lane's 16 bytes lie side by side.
__device__ __forceinline__ void store_panel(const uint32_t (&a)[4][4], uint4* to) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    to[k * 32] = make_uint4(transpose_tile(a[k][0]), transpose_tile(a[k][1]), transpose_tile(a[k][2]),
                            transpose_tile(a[k][3]));
  }
}
// Panel by panel, X decays, by columns or as a whole.
template <int COUNT>
__device__ __forceinline__ void decay_panel(float (&x)[COUNT], const float* decay, int panel) {
#pragma unroll
  for (int t = 8 * panel; t < 8 * panel + 8; ++t) {
    const float2 d = *reinterpret_cast<const float2*>(decay + 8 * t + 2 * (threadIdx.x & 3));
    x[4 * t] *= d.x, x[4 * t + 1] *= d.y, x[4 * t + 2] *= d.x, x[4 * t + 3] *= d.y;
  }
}

template <int COUNT>
__device__ __forceinline__ void decay_panel(float (&x)[COUNT], float decay, int panel) {
#pragma unroll
  for (int i = 32 * panel; i < 32 * panel + 32; ++i) x[i] *= decay;
}

// out += values^T P^T (both parts of P), or values^T P: 16 tokens of values, and of P's columns or rows,
// where it is not zero. out's blocks of 16 tokens are flipped in the first case, so that these sums are the
// first in either; or, where they are not, zeros are added too.
template <class Shape, int STEP>
__device__ __forceinline__ void add_scored_values(float (&out)[CHUNK / 2], uint32_t values, uint32_t scores) {
  constexpr int COUNT = Shape::REVERSED ? 16 * STEP + 16 : Shape::FLIPPED ? CHUNK - 16 * STEP : CHUNK;
  float(&part)[COUNT / 2] = reinterpret_cast<float(&)[COUNT / 2]>(out);
  const uint64_t a = wgmma_tile_along_rows(values + 16 * STEP * PANEL_ROW_BYTES, 0);
#pragma unroll
  for (int i = 0; i < Shape::SCORES; ++i) {
    const uint32_t tile = scores + i * CHUNK * PANEL_ROW_BYTES;
    if constexpr (Shape::REVERSED) {
      wgmma<1>(part, a, wgmma_tile_along_rows(tile + 16 * STEP * PANEL_ROW_BYTES, 0));
    } else {
      wgmma<0>(part, a, wgmma_tile_along_columns(tile + 32 * STEP));
    }
  }
}

// Visits a thread's elements of X inside [rows, columns]: visit(i, row, column), rows from row0 on.
template <int COUNT, class Visit>
__device__ __forceinline__ void visit_state(int row0, int rows, int columns, const Visit& visit) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    const int row = row0 + (lane >> 2) + 8 * (i >> 1 & 1), column = 8 * (i >> 2) + 2 * (lane & 3) + (i & 1);
    if (row < rows && column < columns) visit(i, row, column);
  }
}

}  // namespace sluice::kernels::gla
