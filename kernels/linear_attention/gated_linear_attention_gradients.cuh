// Pieces of the gradients kernel: its shared memory, and the products of what lies inside a chunk.
#pragma once

#include <cstddef>

#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"

namespace sluice::kernels::gla::gradient {

inline constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES;

// 64 key columns a block. Half of the warps sum dq = dO S^T + dP k, the other half dk = V dS^T + dP^T q, in
// tiles of 32 x 32; then threads take two columns of eight rows each, multiply by the decays and sum the
// gates' gradient. Two blocks a multiprocessor: one multiplies while the other is at its decays.
inline constexpr int KEYS = PANEL;
inline constexpr int THREADS = 256, ROLE_WARPS = THREADS / 64;
inline constexpr int ROW = KEYS + 8;  // floats: four rows of eight columns of a fragment fill the banks
inline constexpr int SCORES_ROW = CHUNK + 4;  // the same for eight rows of four

struct Stage {
  unsigned char d_o[PANEL_BYTES], v[PANEL_BYTES], state[PANEL_BYTES], d_state[PANEL_BYTES];
};
struct Inside {
  float k[CHUNK * ROW];  // k e^(middle - b), or k; then dq
  float q[CHUNK * ROW];  // q' e^(b - middle), or q'; then dk from inside the chunk
  float b[CHUNK * ROW];  // where the factors of a segment would leave the range of floats
};
// What the sums meet once all states are read. Of a group's heads, the first leaves `far` for the last.
template <bool GROUPED>
struct Shared {
  static constexpr int STAGES = GROUPED ? 2 : 3;
  union {
    Stage stages[STAGES];
    struct {
      Inside inside;
      float d_scores[CHUNK * SCORES_ROW];  // dP
      float far_of_one[GROUPED ? 4 : CHUNK * ROW];
    };
  };
  float far_of_group[GROUPED ? CHUNK * ROW : 4];
  float diagonal[CHUNK];  // of dP, where d_scores then holds zeros
  union {
    float sums[2 * SEGMENTS * KEYS];
    struct {
      float gate_sums[SEGMENTS * KEYS];
      int middles[SEGMENTS * KEYS];  // of the segments, where the chunk's range is too large
    };
  };
  float before[KEYS];  // e^middle: from the chunk's start to the middle of the decay
  float across[KEYS];  // rowsum_V(S . dS)

  __device__ __forceinline__ float* far() { return GROUPED ? far_of_group : far_of_one; }  // V dS^T
};

static_assert(offsetof(Shared<true>, sums) % 16 == 0 && offsetof(Shared<false>, sums) % 16 == 0);

// Products of two pieces' elements: a half's to each of two sums, or all to one.
template <int SUMS>
__device__ __forceinline__ void add_products(float (&sums)[SUMS], const uint4& x, const uint4& y) {
  const uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 a = unpack_bfloat16(xs[i]), b = unpack_bfloat16(ys[i]);
    sums[i * SUMS / 4] += a.x * b.x + a.y * b.y;
  }
}

// Visits the sums of a 32 x 32 tile two neighbouring columns at a time: visit(c, d, row, column).
template <class Visit>
__device__ __forceinline__ void visit_tile(float (&sums)[2][4][4], int row0, int column0,
                                           const Visit& visit) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int t = 0; t < 4; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        visit(sums[m][t][2 * half], sums[m][t][2 * half + 1], row0 + 16 * m + 8 * half + (lane >> 2),
              column0 + 8 * t + 2 * (lane & 3));
      }
    }
  }
}

// sums += scores factors, or scores^T factors, eight tokens at a time.
struct InsideProducts {
  const float *scores, *factors;
  int row0, column0, group, pair, row_step, k_step;

  __device__ __forceinline__ InsideProducts(const float* scores, const float* factors, bool transposed,
                                            int row0, int column0)
      : scores(scores),
        factors(factors),
        row0(row0),
        column0(column0),
        group((threadIdx.x & 31) >> 2),
        pair(threadIdx.x & 3),
        row_step(transposed ? 1 : SCORES_ROW),
        k_step(transposed ? SCORES_ROW : 1) {}

  // Of tokens k to k + 7.
  __device__ __forceinline__ void add(float (&sums)[2][4][4], int k) const {
    uint32_t a[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const float* at = scores + (row0 + 16 * m + group) * row_step + (k + pair) * k_step;
      a[m][0] = __float_as_uint(at[0]), a[m][1] = __float_as_uint(at[8 * row_step]);
      a[m][2] = __float_as_uint(at[4 * k_step]), a[m][3] = __float_as_uint(at[8 * row_step + 4 * k_step]);
    }
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      const float* at = factors + (k + pair) * ROW + column0 + 8 * t + group;
      const uint32_t b0 = __float_as_uint(at[0]), b1 = __float_as_uint(at[4 * ROW]);
#pragma unroll
      for (int m = 0; m < 2; ++m) mma_m16n8k8(sums[m][t], a[m], b0, b1);
    }
  }
};

// Of the part of the scores that is not zero.
__device__ __forceinline__ void add_inside(float (&sums)[2][4][4], const float* scores, const float* factors,
                                           bool transposed, int row0, int column0) {
  const InsideProducts products(scores, factors, transposed, row0, column0);
  const int k_first = transposed ? row0 : 0, k_end = transposed ? CHUNK : row0 + 32;
#pragma unroll 2
  for (int k = k_first; k < k_end; k += 8) {
    products.add(sums, k);
  }
}

// The same with middles of segments. Sums stand at the middle of the segment they have come to, from the
// chunk's start on, or, transposed, from its end, and decay from one to the next until they are at the row's.
__device__ __forceinline__ void add_inside_by_segments(float (&sums)[2][4][4], const float* scores,
                                                       const float* factors, const int* middles,
                                                       bool transposed, int row0, int column0) {
  const InsideProducts products(scores, factors, transposed, row0, column0);
  const int first_segment = row0 / SEGMENT_ROWS;  // of four
  const int turns = transposed ? SEGMENTS - first_segment : first_segment + 4;
  middles += column0 + 2 * products.pair;
#pragma unroll 1
  for (int turn = 0; turn < turns; ++turn) {
    const int segment = transposed ? SEGMENTS - 1 - turn : turn, k = segment * SEGMENT_ROWS;
    if (turn > 0) {
      const int later = transposed ? segment + 1 : segment;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const int2 to = *reinterpret_cast<const int2*>(middles + later * KEYS + 8 * t);
        const int2 from = *reinterpret_cast<const int2*>(middles + (later - 1) * KEYS + 8 * t);
        const float x = exact_power_of_two(to.x - from.x), y = exact_power_of_two(to.y - from.y);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int own = first_segment + i;
          if (transposed ? segment < own : segment > own) continue;
          sums[i / 2][t][i % 2 * 2] *= x, sums[i / 2][t][i % 2 * 2 + 1] *= y;
        }
      }
    }
    products.add(sums, k);
  }
}

// The same term by term, for any gates: no exponent is positive. Sums from the state come in without their
// decay.
__device__ __forceinline__ void add_inside_by_terms(float (&sums)[2][4][4], const float* scores,
                                                    const float* factors, const float* b, bool transposed,
                                                    int row0, int column0) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int row = row0 + 16 * (i >> 4) + 8 * (i >> 1 & 1) + (lane >> 2);
    const int column = column0 + 8 * (i >> 2 & 3) + 2 * (lane & 3) + (i & 1);
    const float here = b[row * ROW + column];
    float sum = 0.0f;
    const int end = transposed ? CHUNK : row;
#pragma unroll 1
    for (int j = transposed ? row + 1 : 0; j < end; ++j) {
      const float there = b[j * ROW + column];
      const float score = transposed ? scores[j * SCORES_ROW + row] : scores[row * SCORES_ROW + j];
      sum += score * factors[j * ROW + column] * power_of_two(transposed ? there - here : here - there);
    }
    float& element = sums[i >> 4][i >> 2 & 3][i & 3];
    element = element * (transposed ? 1.0f : power_of_two(here)) + sum;
  }
}

}  // namespace sluice::kernels::gla::gradient
