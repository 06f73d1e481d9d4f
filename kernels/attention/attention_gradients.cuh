// What both passes of backward on tensor cores do with a slice of scores.
#pragma once

#include "kernels/attention/attention_softmax.cuh"
#include "kernels/attention/attention_tiles.cuh"

namespace sluice::kernels {

// For a pass whose blocks own ROWS rows of which each warp owns 16 * MT, and by which tiles of PASSING rows
// come, multiplied in slices of 16: more would not fit in the registers beside the sums.
template <int D_, int MT_, int WARPS_, int PASSING_, int BLOCKS_>
struct BackwardTiles {
  static constexpr int D = D_, MT = MT_, WARPS = WARPS_, PASSING = PASSING_;
  static constexpr int BLOCKS = BLOCKS_;  // on a multiprocessor
  static constexpr int PITCH = SharedTile<D>::PITCH, SLICE = 16, SLICE_BYTES = SLICE * PITCH;
  static constexpr int WARP_ROWS = 16 * MT, ROWS = WARP_ROWS * WARPS, THREADS = 32 * WARPS;
  static constexpr int OWN_BYTES = ROWS * D * 2, TILE_BYTES = PASSING * D * 2;
  static constexpr int TILES_BYTES = std::max(2 * OWN_BYTES + 4 * TILE_BYTES, WARPS* STAGING_BYTES<MT>);
};

// A warp's own rows of two matrices, as A operands.
template <class Tiles>
struct OwnRows {
  uint32_t left[Tiles::D / 16][Tiles::MT][4], right[Tiles::D / 16][Tiles::MT][4];

  // address: tile of the first matrix + rows_first(lane); the second is OWN_BYTES further.
  __device__ __forceinline__ explicit OwnRows(uint32_t address) {
    load_rows<Tiles::D, Tiles::MT>(left, address);
    load_rows<Tiles::D, Tiles::MT>(right, address + Tiles::OWN_BYTES);
  }
};

// Scores of own rows against a slice of passing rows, and dP - delta.
template <class Tiles>
struct Slice {
  float score[Tiles::MT][2][4];
  float gradient[Tiles::MT][2][4];  // starts as -delta

  // columns: tile of the first passing matrix + columns_first(lane); the second is TILE_BYTES further.
  __device__ __forceinline__ void multiply(const OwnRows<Tiles>& own, uint32_t columns, int bytes) {
    fill(score, 0.f);
    multiply_rows<Tiles::D, Tiles::MT, 1>(score, own.left, columns, bytes);
    multiply_rows<Tiles::D, Tiles::MT, 1>(gradient, own.right, columns, bytes + Tiles::TILE_BYTES);
  }
};

// sum [16 * MT, D] += coefficients [16 * MT, 16] times passing rows at `rows` = tile + rows_first(lane), plus
// bytes.
template <class Tiles>
__device__ __forceinline__ void add_passing_rows(float (&sum)[Tiles::MT][Tiles::D / 8][4],
                                                 const float (&coefficients)[Tiles::MT][2][4], uint32_t rows,
                                                 int bytes) {
  uint32_t a[Tiles::MT][4];
#pragma unroll
  for (int mt = 0; mt < Tiles::MT; ++mt) pack_operand(a[mt], coefficients[mt][0], coefficients[mt][1]);
  add_product<Tiles::D, Tiles::MT>(sum, a, rows, bytes);
}

template <int MT, int N>
__device__ __forceinline__ void scale_sums(float (&c)[MT][N][4], float factor) {
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) c[mt][n][e] *= factor;
    }
  }
}

}  // namespace sluice::kernels
