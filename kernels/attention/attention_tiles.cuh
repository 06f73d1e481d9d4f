// Tiles of bfloat16 rows in shared memory, and products of them on tensor cores. D is the padded head size:
// columns from head_dim on are zero.
#pragma once

#include "kernels/attention/attention_place.cuh"
#include "kernels/common/device_types.cuh"
#include "kernels/common/mma.cuh"

namespace sluice::kernels {

// [rows, D]: rows of 2 * D bytes whose 16-byte chunks are permuted by row % 8, so that the eight rows of a
// matrix that ldmatrix reads lie in different banks. Tiles start at multiples of 1024 bytes.
template <int D>
struct SharedTile {
  static constexpr int PITCH = 2 * D;

  __device__ __forceinline__ static uint32_t place(int row, int chunk) {
    return static_cast<uint32_t>(row * PITCH + ((chunk ^ (row & 7)) << 4));
  }
  // Where this lane points ldmatrix.x4 for 16 rows by 16 columns: matrices ordered rows first, which makes an
  // A operand of [row, k] or, transposed, two B operands of [k, column].
  __device__ __forceinline__ static uint32_t rows_first(int lane) { return place(lane & 15, lane >> 4); }
  // Ordered columns first: two B operands of [column, k].
  __device__ __forceinline__ static uint32_t columns_first(int lane) {
    return place((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
  }
  // From such an address, 16 * columns16 right and then `bytes` further, a multiple of 8 rows. In this order,
  // and with constants, the sum is part of the load instruction.
  __device__ __forceinline__ static uint32_t step(uint32_t address, int columns16, int bytes) {
    return (address ^ static_cast<uint32_t>(columns16 << 5)) + static_cast<uint32_t>(bytes);
  }
};

// Copies tiles of ROWS rows that follow each other in memory; each thread its chunk of every STEPth row.
template <int D, int ROWS, int THREADS>
class RowCopier {
 public:
  __device__ __forceinline__ RowCopier(const bfloat16* from, int64_t stride, int head_dim, int thread)
      : at_(from + thread / CHUNKS * stride + thread % CHUNKS * 8),
        step_(STEP * stride),
        row_(thread % CHUNKS * 8 < head_dim ? thread / CHUNKS : ROWS),
        place_(SharedTile<D>::place(thread / CHUNKS, thread % CHUNKS)) {}

  // Starts to copy the next `rows` of ROWS rows to `tile`: zeros below them and right of head_dim.
  __device__ __forceinline__ void copy(uint32_t tile, int rows) {
    rows = min(rows, ROWS);
#pragma unroll
    for (int i = 0; i < ROWS / STEP; ++i) {
      copy_async_16(tile + place_ + i * STEP * SharedTile<D>::PITCH, at_, row_ + i * STEP < rows);
      at_ += step_;
    }
  }

 private:
  static constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;
  // Rows of a thread agree in row % 8, so that their chunks lie at the same place in the row.
  static_assert(THREADS % CHUNKS == 0 && STEP % 8 == 0 && ROWS % STEP == 0);

  const bfloat16* at_;
  int64_t step_;
  int row_;
  uint32_t place_;
};

// A operands of [16 * MT, D] at `address` = tile + rows_first(lane).
template <int D, int MT>
__device__ __forceinline__ void load_rows(uint32_t (&a)[D / 16][MT][4], uint32_t address) {
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
      load_matrix_x4(a[k][mt], SharedTile<D>::step(address, k, mt * 16 * SharedTile<D>::PITCH));
    }
  }
}

// One step of a product over 16 columns: c [16 * MT, 16 * NT] += a b^T.
template <int D, int MT, int NT>
__device__ __forceinline__ void multiply_columns(float (&c)[MT][2 * NT][4], const uint32_t (&a)[MT][4],
                                                 uint32_t address, int k, int bytes) {
#pragma unroll
  for (int nt = 0; nt < NT; ++nt) {
    uint32_t b[4];
    load_matrix_x4(b, SharedTile<D>::step(address, k, bytes + nt * 16 * SharedTile<D>::PITCH));
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
      mma_m16n8k16(c[mt][2 * nt], a[mt], b[0], b[1]);
      mma_m16n8k16(c[mt][2 * nt + 1], a[mt], b[2], b[3]);
    }
  }
}

// c [16 * MT, 16 * NT] += a [16 * MT, D] b^T, b [16 * NT, D] at `address` = tile + columns_first(lane), plus
// bytes.
template <int D, int MT, int NT>
__device__ __forceinline__ void multiply_rows(float (&c)[MT][2 * NT][4], const uint32_t (&a)[D / 16][MT][4],
                                              uint32_t address, int bytes) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) multiply_columns<D, MT, NT>(c, a[k], address, k, bytes);
}

// The same with a [16 * MT, D] in shared memory at `own` = tile + rows_first(lane), plus own_bytes: for
// registers' sake.
template <int D, int MT, int NT>
__device__ __forceinline__ void multiply_rows(float (&c)[MT][2 * NT][4], uint32_t own, int own_bytes,
                                              uint32_t address, int bytes) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[MT][4];
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
      load_matrix_x4(a[mt], SharedTile<D>::step(own, k, own_bytes + mt * 16 * SharedTile<D>::PITCH));
    }
    multiply_columns<D, MT, NT>(c, a, address, k, bytes);
  }
}

// c [16 * MT, D] += a [16 * MT, 16] b, b [16, D] at `address` = tile + rows_first(lane), plus bytes.
template <int D, int MT>
__device__ __forceinline__ void add_product(float (&c)[MT][D / 8][4], const uint32_t (&a)[MT][4],
                                            uint32_t address, int bytes) {
#pragma unroll
  for (int nt = 0; nt < D / 16; ++nt) {
    uint32_t b[4];
    load_matrix_x4_transposed(b, SharedTile<D>::step(address, nt, bytes));
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
      mma_m16n8k16(c[mt][2 * nt], a[mt], b[0], b[1]);
      mma_m16n8k16(c[mt][2 * nt + 1], a[mt], b[2], b[3]);
    }
  }
}

// Two neighbouring C tiles [16, 8] as one A operand [16, 16].
__device__ __forceinline__ void pack_operand(uint32_t (&a)[4], const float (&left)[4],
                                             const float (&right)[4]) {
  a[0] = pack_bfloat16(left[0], left[1]);
  a[1] = pack_bfloat16(left[2], left[3]);
  a[2] = pack_bfloat16(right[0], right[1]);
  a[3] = pack_bfloat16(right[2], right[3]);
}

template <int MT, int N>
__device__ __forceinline__ void fill(float (&c)[MT][N][4], float value) {
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) c[mt][n][e] = value;
    }
  }
}

// Bytes of staging memory that write_rows needs for a warp of MT * 16 rows.
template <int MT>
inline constexpr int STAGING_BYTES = MT * 16 * (64 + 8) * 4;

// Writes `rows` of a warp's sums [16 * MT, D] to memory, 16 bytes at a time by way of shared memory, added to
// what is there if asked.
template <int D, int MT>
__device__ __forceinline__ void write_rows(const float (&sum)[MT][D / 8][4], float* staging, bfloat16* to,
                                           int64_t stride, int rows, int head_dim, bool accumulate,
                                           int lane) {
  constexpr int PITCH = 64 + 8;  // no two rows of a fragment start in the same bank
#pragma unroll
  for (int block = 0; block < D / 64; ++block) {
    __syncwarp();
#pragma unroll
    for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const float(&c)[4] = sum[mt][block * 8 + n];
        float* at = staging + (mt * 16 + lane / 4) * PITCH + n * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(at) = make_float2(c[0], c[1]);
        *reinterpret_cast<float2*>(at + 8 * PITCH) = make_float2(c[2], c[3]);
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < MT * 4; ++i) {
      const int row = i * 4 + lane / 8, column = block * 64 + lane % 8 * 8;
      if (row >= rows || column >= head_dim) continue;
      const float* from = staging + row * PITCH + lane % 8 * 8;
      bfloat16* place = to + row * stride + column;
      float values[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) values[e] = from[e];
      if (accumulate) {
        const auto old = Pack<bfloat16, 8>::load(place);
#pragma unroll
        for (int e = 0; e < 8; ++e) values[e] += old[e];
      }
      Pack<bfloat16, 8>::of(values).store(place);
    }
  }
}

}  // namespace sluice::kernels
