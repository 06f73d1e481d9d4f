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
};

inline constexpr int VALUES = FUSED_WALK_VALUES;  // rows of X a block carries, half of them a warpgroup
inline constexpr int PRODUCERS = 128, CONSUMERS = 256;

// X^T has KEYS columns; K may be less.
template <int KEYS, WalkMode MODE>
struct WalkShape {
  static constexpr bool EMITS = MODE == WalkMode::kOutput || MODE == WalkMode::kValues;
  static constexpr bool STORES = MODE == WalkMode::kStates || MODE == WalkMode::kValues;
  // Whether tokens of what it emits come in flipped blocks: add_scored_values.
  static constexpr bool FLIPPED = MODE == WalkMode::kOutput;
  static constexpr int PANELS = KEYS / PANEL;
  static constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES, HAT_PANEL_BYTES = HAT_ROWS * PANEL_ROW_BYTES;
  // A stage: hat of the update, W, decays; where the walk emits, the other hat and both parts of the scores.
  static constexpr int VALUE_PLACE = PANELS * HAT_PANEL_BYTES;
  static constexpr int DECAY_PLACE = VALUE_PLACE + VALUES / PANEL * PANEL_BYTES;
  static constexpr int EMIT_PLACE = DECAY_PLACE + 1024;
  static constexpr int SCORE_PLACE = EMIT_PLACE + PANELS * PANEL_BYTES;
  static constexpr int STAGE_BYTES = EMITS ? SCORE_PLACE + 2 * PANEL_BYTES : EMIT_PLACE;
  static constexpr int SHARED_BYTES =
      STAGE_BYTES - 1024 + KEYS * 4 - VALUES / PANEL * PANEL_BYTES;  // beside W
  static constexpr int FIT = 225 * 1024 / STAGE_BYTES, STAGES = FIT < 4 ? FIT : 4;
  static constexpr int BYTES = STAGES * STAGE_BYTES + 16 * STAGES;
  static_assert(STAGES >= 2 && STAGE_BYTES % 1024 == 0 && KEYS * 4 <= 1024);
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

// A chunk's tiles that all values share, as prepare left them, into a stage: by one thread of each of the
// cluster's blocks, which copy every other tile, each to all.
template <int KEYS, WalkMode MODE>
__device__ __forceinline__ void copy_shared_tiles(uint32_t stage, uint32_t barrier, const Chunked& p,
                                                  const FusedWalk& w, int64_t chunk_head, int block,
                                                  int blocks) {
  using Shape = WalkShape<KEYS, MODE>;
  barrier_arrive_for_bytes(barrier, Shape::SHARED_BYTES);
  const auto copy = [&](int turn, int place, const void* from, int bytes) {
    if (blocks == 1) {
      copy_bulk(stage + place, from, bytes, barrier);
    } else if (turn % 2 == block) {
      copy_bulk_to_cluster(stage + place, from, bytes, barrier, 3);
    }
  };
  constexpr int HAT = HAT_ROWS * PANEL;
#pragma unroll
  for (int i = 0; i < Shape::PANELS; ++i) {
    const int64_t at = (chunk_head * Shape::PANELS + i) * HAT;
    if constexpr (Shape::EMITS)
      copy(i, Shape::EMIT_PLACE + i * Shape::PANEL_BYTES, w.emit_hat + at, Shape::PANEL_BYTES);
    copy(i + 1, i * Shape::HAT_PANEL_BYTES, w.hat + at, Shape::HAT_PANEL_BYTES);
  }
  if constexpr (Shape::EMITS) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy(i, Shape::SCORE_PLACE + i * Shape::PANEL_BYTES, p.scores + (chunk_head * 2 + i) * CHUNK * CHUNK,
           Shape::PANEL_BYTES);
    }
  }
  copy_bulk(stage + Shape::DECAY_PLACE, p.decay + chunk_head * KEYS, KEYS * 4, barrier);
}
// Its rows of W, by the producers.
__device__ __forceinline__ void copy_values(uint32_t tile, const bfloat16* values, int64_t stride, int rows,
                                            int columns) {
#pragma unroll
  for (int i = 0; i < VALUES / PANEL; ++i) {
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
// Panel by panel, X decays.
template <int COUNT>
__device__ __forceinline__ void decay_panel(float (&x)[COUNT], const float* decay, int panel) {
#pragma unroll
  for (int t = 8 * panel; t < 8 * panel + 8; ++t) {
    const float2 d = *reinterpret_cast<const float2*>(decay + 8 * t + 2 * (threadIdx.x & 3));
    x[4 * t] *= d.x, x[4 * t + 1] *= d.y, x[4 * t + 2] *= d.x, x[4 * t + 3] *= d.y;
  }
}

// out += values^T P^T (both parts of P), or values^T P: 16 tokens of values, and of P's columns or rows,
// where it is not zero. out's blocks of 16 tokens are flipped in the first case, so that these sums are the
// first in either.
template <bool TRANSPOSED, int STEP>
__device__ __forceinline__ void add_scored_values(float (&out)[CHUNK / 2], uint32_t values, uint32_t scores) {
  constexpr int COUNT = TRANSPOSED ? 16 * STEP + 16 : CHUNK - 16 * STEP;
  float(&part)[COUNT / 2] = reinterpret_cast<float(&)[COUNT / 2]>(out);
  const uint64_t a = wgmma_tile_along_rows(values + 16 * STEP * PANEL_ROW_BYTES, 0);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t tile = scores + i * CHUNK * PANEL_ROW_BYTES;
    if constexpr (TRANSPOSED) {
      wgmma<1>(part, a, wgmma_tile_along_rows(tile + 16 * STEP * PANEL_ROW_BYTES, 0));
    } else {
      wgmma<0>(part, a, wgmma_tile_along_columns(tile + 32 * STEP));
    }
  }
}

// Visits a thread's elements of X^T inside [V, K]: visit(i, value, key), values from v0 on.
template <int COUNT, class Visit>
__device__ __forceinline__ void visit_state(int v0, int V, int K, const Visit& visit) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    const int value = v0 + (lane >> 2) + 8 * (i >> 1 & 1), key = 8 * (i >> 2) + 2 * (lane & 3) + (i & 1);
    if (value < V && key < K) visit(i, value, key);
  }
}

}  // namespace sluice::kernels::gla
