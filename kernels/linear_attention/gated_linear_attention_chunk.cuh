// Device helpers of the chunked kernels: swizzled tiles in shared memory, their fragments, the gates of a
// chunk.
#pragma once

#include "kernels/common/device_types.cuh"
#include "kernels/common/mma.cuh"
#include "kernels/linear_attention/gated_linear_attention_chunked.h"

namespace sluice::kernels::gla {

// The sequence of chunk c is the last that starts at or before it, which is no empty one.
__device__ __forceinline__ ChunkSpan span_of_chunk(const int64_t* offsets, const int64_t* chunk_offsets,
                                                   int64_t sequences, int64_t c) {
  int64_t low = 0, high = sequences;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (chunk_offsets[middle] <= c) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const int64_t first = offsets[low] + (c - chunk_offsets[low]) * CHUNK, left = offsets[low + 1] - first;
  return {first, left < CHUNK ? left : CHUNK};
}

// Tiles are panels of 64 columns of bfloat16: rows of 128 bytes whose eight 16-byte pieces are permuted by
// the row, so that ldmatrix, which reads a piece of eight rows, meets every bank once.
inline constexpr int PANEL = 64;
inline constexpr int PANEL_ROW_BYTES = 128;

__device__ __forceinline__ uint32_t piece_address(uint32_t tile, int row, int piece) {
  return tile + row * PANEL_ROW_BYTES + ((piece ^ (row & 7)) << 4);
}

// Starts copying the first COLUMNS of a [ROWS, 64] panel; rows and columns outside [rows, columns] become
// zero.
template <int ROWS, int THREADS, int COLUMNS = PANEL>
__device__ __forceinline__ void copy_panel(uint32_t tile, const bfloat16* from, int64_t stride, int rows,
                                           int columns) {
  constexpr int PIECES = COLUMNS / 8, STEP = THREADS / PIECES;
  static_assert(STEP % 8 == 0, "a thread's rows share one permutation");
  const int first = static_cast<int>(threadIdx.x) / PIECES, piece = static_cast<int>(threadIdx.x) % PIECES;
  uint32_t to = piece_address(tile, first, piece);
  from += first * stride + piece * 8;
  const int valid_rows = piece * 8 < columns ? rows - first : 0;
#pragma unroll
  for (int row = 0; row < ROWS; row += STEP) {
    if (ROWS % STEP != 0 && first + row >= ROWS) break;
    copy_async_16(to, from, row < valid_rows);
    to += STEP * PANEL_ROW_BYTES, from += STEP * stride;
  }
}

// Fragments of m16n8k16. A is [m, k]; B is [k, n] and comes for 16 columns: b[0], b[1] the first eight, b[2],
// b[3] the next. `stored` says which index runs along the tile's rows; m, n and k are multiples of 16, tiles
// lie on 128 bytes. So a fragment's place along a row is one exclusive or away from what depends on the lane
// alone.
__device__ __forceinline__ uint32_t lane_by_16_rows() {
  const uint32_t lane = threadIdx.x & 31;
  return (lane & 15) * PANEL_ROW_BYTES + (((lane >> 4) ^ (lane & 7)) << 4);
}
__device__ __forceinline__ uint32_t lane_by_8_rows() {
  const uint32_t lane = threadIdx.x & 31;
  return ((lane & 7) + (lane >> 4) * 8) * PANEL_ROW_BYTES + ((((lane >> 3) & 1) ^ (lane & 7)) << 4);
}
__device__ __forceinline__ uint32_t fragment_address(uint32_t tile, uint32_t lane, int row, int column) {
  return ((tile + lane) ^ (column * 2)) + row * PANEL_ROW_BYTES;
}
__device__ __forceinline__ void fragment_a_stored_mk(uint32_t (&a)[4], uint32_t tile, int m, int k) {
  load_matrix_x4(a, fragment_address(tile, lane_by_16_rows(), m, k));
}
__device__ __forceinline__ void fragment_a_stored_km(uint32_t (&a)[4], uint32_t tile, int m, int k) {
  load_matrix_x4_transposed(a, fragment_address(tile, lane_by_8_rows(), k, m));
}
__device__ __forceinline__ void fragment_b_stored_nk(uint32_t (&b)[4], uint32_t tile, int k, int n) {
  load_matrix_x4(b, fragment_address(tile, lane_by_8_rows(), n, k));
}
__device__ __forceinline__ void fragment_b_stored_kn(uint32_t (&b)[4], uint32_t tile, int k, int n) {
  load_matrix_x4_transposed(b, fragment_address(tile, lane_by_16_rows(), k, n));
}

// c += a b with factors of 11 bits (tf32). lane = 4 * group + pair: a[0], a[1] are rows group, + 8 of column
// pair, a[2], a[3] the same of column pair + 4; b0, b1 rows pair, + 4 of column group; c as in m16n8k16.
__device__ __forceinline__ void mma_m16n8k8(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// The nearest value of 11 bits.
__device__ __forceinline__ float to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

// x[t] of a quad's lane p goes to x[p] of lane t.
__device__ __forceinline__ void transpose_in_quad(uint32_t (&x)[4]) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
  uint32_t y0 = __shfl_xor_sync(~0u, odd ? x[0] : x[1], 1);
  uint32_t y1 = __shfl_xor_sync(~0u, odd ? x[2] : x[3], 1);
  if (odd) {
    x[0] = y0, x[2] = y1;
  } else {
    x[1] = y0, x[3] = y1;
  }
  y0 = __shfl_xor_sync(~0u, high ? x[0] : x[2], 2);
  y1 = __shfl_xor_sync(~0u, high ? x[1] : x[3], 2);
  if (high) {
    x[0] = y0, x[1] = y1;
  } else {
    x[2] = y0, x[3] = y1;
  }
}

// Sums of a [16, 32] tile (four fragments c side by side), times factor, as bfloat16 to rows `stride` apart:
// each lane gathers eight neighbours and stores them at once. `to` is the tile's corner.
__device__ __forceinline__ void store_sums(const float (*c)[4], float factor, bfloat16* to, int64_t stride,
                                           int rows, int columns) {
  const int lane = threadIdx.x & 31, group = lane >> 2, pair = lane & 3;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t x[4];
#pragma unroll
    for (int t = 0; t < 4; ++t) x[t] = pack_bfloat16(factor * c[t][2 * half], factor * c[t][2 * half + 1]);
    transpose_in_quad(x);
    const int row = group + 8 * half;
    if (row < rows && pair * 8 < columns) {
      *reinterpret_cast<uint4*>(to + row * stride + pair * 8) = make_uint4(x[0], x[1], x[2], x[3]);
    }
  }
}

// Two neighbouring bfloat16 as floats.
__device__ __forceinline__ float2 unpack_bfloat16(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

// Where, in 16 bytes, a state's first piece of a panel and step lies.
__device__ __forceinline__ int64_t first_piece(const StateFragments& fragments, int64_t state, int64_t panel,
                                               int64_t step) {
  return ((state * fragments.panels + panel) * fragments.steps + step) * 4 * 32;
}

// Elementwise work on a chunk: a thread holds two neighbouring columns of one of eight segments of eight
// rows.
inline constexpr int SEGMENTS = 8, SEGMENT_ROWS = CHUNK / SEGMENTS;

// Two columns of a segment's rows, as packed pairs; zero past `rows` rows of the chunk. from: the chunk's
// first row.
__device__ __forceinline__ void load_segment(uint32_t (&pairs)[SEGMENT_ROWS], const bfloat16* from,
                                             int64_t stride, int segment, int rows) {
  from += segment * SEGMENT_ROWS * stride;
  const int valid = rows - segment * SEGMENT_ROWS;
#pragma unroll
  for (int i = 0; i < SEGMENT_ROWS; ++i) {
    pairs[i] = i < valid ? __ldg(reinterpret_cast<const uint32_t*>(from)) : 0u;
    from += stride;
  }
}

// Gates are summed as powers of two, whose exponential is one instruction.
inline constexpr float LOG2_E = 1.4426950408889634f;
__device__ __forceinline__ float power_of_two(float exponent) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(power) : "f"(exponent));
  return power;
}
// To the last bit; zero below what a float holds.
__device__ __forceinline__ float exact_power_of_two(int exponent) {
  return __int_as_float((min(max(exponent, -127), 127) + 127) << 23);
}
// 2^-159 is zero in float, e^-110 too; a running sum of 64 of these still has 10 bits behind the point.
inline constexpr float LEAST_GATE = -159.0f;
// How far b may lie from the middle of its range for 2^(b - middle) and its inverse to be factors of a
// product.
inline constexpr float LARGEST_EXPONENT = 60.0f;

// The running sums of the gates over the chunk, inclusive, and the chunk's own, in powers of two.
struct Gates {
  float b[SEGMENT_ROWS][2];
  float total[2];

  __device__ __forceinline__ float middle(int column) const { return 0.5f * total[column]; }
  // False where a factor would leave the range of floats.
  __device__ __forceinline__ bool in_range(float middle0, float middle1) const {
    bool in = true;
#pragma unroll
    for (int i = 0; i < SEGMENT_ROWS; ++i) {
      in = in && fabsf(b[i][0] - middle0) <= LARGEST_EXPONENT && fabsf(b[i][1] - middle1) <= LARGEST_EXPONENT;
    }
    return in;
  }
  __device__ __forceinline__ bool in_range() const { return in_range(middle(0), middle(1)); }
  // Where the chunk leaves it, a segment may not. The middle of the thread's own, whose sums are `own`: a
  // whole number, so that what decays between two middles is an exact power of two.
  __device__ __forceinline__ int2 segment_middles(float2 own) const {
    return make_int2(__float2int_rn(b[SEGMENT_ROWS - 1][0] - 0.5f * own.x),
                     __float2int_rn(b[SEGMENT_ROWS - 1][1] - 0.5f * own.y));
  }
  __device__ __forceinline__ int2 segment_ends() const {
    return make_int2(__float2int_rn(b[SEGMENT_ROWS - 1][0]), __float2int_rn(b[SEGMENT_ROWS - 1][1]));
  }
  __device__ __forceinline__ bool segment_in_range(int2 middles) const {
    return in_range(static_cast<float>(middles.x), static_cast<float>(middles.y));
  }
};

// from: the chunk's first row at the thread's columns, null where there are no gates or columns (but no
// thread may stay away: there is a barrier inside). sums [SEGMENTS, COLUMNS] is free again after the caller's
// next barrier.
template <int COLUMNS>
__device__ __forceinline__ Gates gates_of_chunk(const bfloat16* from, int64_t stride, int rows, int column,
                                                int segment, float* sums) {
  Gates gates;
  float sum0 = 0.0f, sum1 = 0.0f;
  uint32_t pairs[SEGMENT_ROWS];
  load_segment(pairs, from, stride, segment, from == nullptr ? 0 : rows);
#pragma unroll
  for (int i = 0; i < SEGMENT_ROWS; ++i) {
    const float2 g = unpack_bfloat16(pairs[i]);
    const float g0 = g.x * LOG2_E, g1 = g.y * LOG2_E;
    sum0 += g0 < LEAST_GATE ? LEAST_GATE : g0;  // NaN stays
    sum1 += g1 < LEAST_GATE ? LEAST_GATE : g1;
    gates.b[i][0] = sum0, gates.b[i][1] = sum1;
  }
  *reinterpret_cast<float2*>(sums + segment * COLUMNS + column) = make_float2(sum0, sum1);
  __syncthreads();
  float before0 = 0.0f, before1 = 0.0f, total0 = 0.0f, total1 = 0.0f;
#pragma unroll
  for (int s = 0; s < SEGMENTS; ++s) {
    const float2 sum = *reinterpret_cast<const float2*>(sums + s * COLUMNS + column);
    if (s < segment) before0 += sum.x, before1 += sum.y;
    total0 += sum.x, total1 += sum.y;
  }
#pragma unroll
  for (int i = 0; i < SEGMENT_ROWS; ++i) gates.b[i][0] += before0, gates.b[i][1] += before1;
  gates.total[0] = total0, gates.total[1] = total1;
  return gates;
}

}  // namespace sluice::kernels::gla
