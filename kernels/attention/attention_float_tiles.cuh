// Tiles of float rows in shared memory, and exact float products of them by 16 x 16 threads, each with R x R
// elements of a product of two tiles: the path for float, and for rows that tensor cores cannot read.
#pragma once

#include "kernels/attention/attention_place.cuh"
#include "kernels/common/device_types.cuh"

namespace sluice::kernels {

// D: the largest head_dim served; a tile has ROWS rows of D floats, zero from head_dim on.
template <int D_, int ROWS_>
struct FloatTiles {
  static constexpr int D = D_, ROWS = ROWS_, THREADS = 256;
  static constexpr int R = ROWS / 16;        // of a thread: rows y * R + r, keys (or queries) x + 16 * r
  static constexpr int C = D / 64;           // of a thread: columns x * 4 + 64 * c + 0 .. 3
  static constexpr int PITCH = D + 4;        // no two neighbouring rows in the same bank
  static constexpr int TILE = ROWS * PITCH;  // floats
  static constexpr int SCORE_PITCH = ROWS + 4;
  static constexpr int SCORES = ROWS * SCORE_PITCH;
};

// Whether rows can be read 16 bytes at a time.
template <class T>
bool rows_pack(const T* pointer, int64_t stride, int64_t head_dim) {
  return can_pack<PACK<T>>(pointer, stride, head_dim);
}

// Copies `rows` rows of `head_dim`, N elements at a time, zeros elsewhere.
template <class Tiles, int N, class T>
__device__ __forceinline__ void copy_float_rows(float* tile, const T* from, int64_t stride, int rows,
                                                int head_dim) {
  constexpr int PACKS = Tiles::D / N;
  for (int i = static_cast<int>(threadIdx.x); i < Tiles::ROWS * PACKS; i += Tiles::THREADS) {
    const int row = i / PACKS, column = i % PACKS * N;
    float* to = tile + row * Tiles::PITCH + column;
    if (row < rows && column < head_dim) {
      const auto pack = Pack<T, N>::load(from + row * stride + column);
#pragma unroll
      for (int e = 0; e < N; ++e) to[e] = pack[e];
    } else {
#pragma unroll
      for (int e = 0; e < N; ++e) to[e] = 0.f;
    }
  }
}
template <class Tiles, class T>
__device__ __forceinline__ void copy_float_rows(float* tile, const T* from, int64_t stride, int rows,
                                                int head_dim, bool packed) {
  if (packed) {
    copy_float_rows<Tiles, PACK<T>>(tile, from, stride, rows, head_dim);
  } else {
    copy_float_rows<Tiles, 1>(tile, from, stride, rows, head_dim);
  }
}

// product[r][c] = row (y * R + r) of `left` times row (x + 16 * c) of `right`.
template <class Tiles>
__device__ __forceinline__ void multiply_tiles(float (&product)[Tiles::R][Tiles::R], const float* left,
                                               const float* right, int head_dim) {
  constexpr int R = Tiles::R;
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int c = 0; c < R; ++c) product[r][c] = 0.f;
  }
  for (int d = 0; d < head_dim; d += 4) {
    float4 a[R], b[R];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      a[r] = *reinterpret_cast<const float4*>(left + (y * R + r) * Tiles::PITCH + d);
      b[r] = *reinterpret_cast<const float4*>(right + (x + 16 * r) * Tiles::PITCH + d);
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < R; ++c) {
        float sum = fmaf(a[r].x, b[c].x, product[r][c]);
        sum = fmaf(a[r].y, b[c].y, sum);
        sum = fmaf(a[r].z, b[c].z, sum);
        product[r][c] = fmaf(a[r].w, b[c].w, sum);
      }
    }
  }
}

// Leaves a thread's R x R elements at [row][column] of a tile of scores.
template <class Tiles>
__device__ __forceinline__ void store_scores(float* scores, const float (&score)[Tiles::R][Tiles::R]) {
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
#pragma unroll
  for (int r = 0; r < Tiles::R; ++r) {
#pragma unroll
    for (int c = 0; c < Tiles::R; ++c) {
      scores[(y * Tiles::R + r) * Tiles::SCORE_PITCH + x + 16 * c] = score[r][c];
    }
  }
}

// sum [rows, D] += scores [rows, ROWS] times a tile [ROWS, D].
template <class Tiles>
__device__ __forceinline__ void add_weighted_rows(float (&sum)[Tiles::R][Tiles::C][4], const float* scores,
                                                  const float* tile) {
  constexpr int R = Tiles::R, C = Tiles::C;
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
#pragma unroll 4
  for (int j = 0; j < Tiles::ROWS; ++j) {
    float weight[R];
#pragma unroll
    for (int r = 0; r < R; ++r) weight[r] = scores[(y * R + r) * Tiles::SCORE_PITCH + j];
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float4 b = *reinterpret_cast<const float4*>(tile + j * Tiles::PITCH + x * 4 + 64 * c);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        sum[r][c][0] = fmaf(weight[r], b.x, sum[r][c][0]);
        sum[r][c][1] = fmaf(weight[r], b.y, sum[r][c][1]);
        sum[r][c][2] = fmaf(weight[r], b.z, sum[r][c][2]);
        sum[r][c][3] = fmaf(weight[r], b.w, sum[r][c][3]);
      }
    }
  }
}

// Calls visit(r, column, value) for a thread's elements of the first `rows` rows.
template <class Tiles, class Visit>
__device__ __forceinline__ void visit_sums(const float (&sum)[Tiles::R][Tiles::C][4], int rows, int head_dim,
                                           Visit visit) {
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
#pragma unroll
  for (int r = 0; r < Tiles::R; ++r) {
    if (y * Tiles::R + r >= rows) continue;
#pragma unroll
    for (int e = 0; e < 4 * Tiles::C; ++e) {
      const int column = x * 4 + e / 4 * 64 + e % 4;
      if (column < head_dim) visit(r, column, sum[r][e / 4][e % 4]);
    }
  }
}

// Writes the sums times `factor`, added to what is there if asked.
template <class Tiles, class T>
__device__ __forceinline__ void write_sums(const float (&sum)[Tiles::R][Tiles::C][4], T* to, int64_t stride,
                                           int rows, int head_dim, float factor, bool accumulate) {
  const int y = static_cast<int>(threadIdx.x) / 16;
  visit_sums<Tiles>(sum, rows, head_dim, [&](int r, int column, float value) {
    T& place = to[(y * Tiles::R + r) * stride + column];
    place = from_float<T>(accumulate ? fmaf(value, factor, as_float(place)) : value * factor);
  });
}

template <class Tiles>
__device__ __forceinline__ void clear_sums(float (&sum)[Tiles::R][Tiles::C][4]) {
#pragma unroll
  for (int r = 0; r < Tiles::R; ++r) {
#pragma unroll
    for (int e = 0; e < 4 * Tiles::C; ++e) sum[r][e / 4][e % 4] = 0.f;
  }
}

}  // namespace sluice::kernels
