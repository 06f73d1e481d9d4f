// Elementwise work over [rows, columns] with strides. Each thread owns packs of N neighbouring elements in
// the same columns of a few rows, and reads all of them before it writes any, which keeps many loads on their
// way.
//
// A body is a small struct with
//   template <int N> struct Loaded;                                                   // what a pack needs
//   template <int N> __device__ Loaded<N> load(int64_t row, int64_t column) const;
//   template <int N> __device__ void store(int64_t row, int64_t column, const Loaded<N>&) const;
// and, where registers would otherwise leave a multiprocessor too few loads on their way,
//   static constexpr int BLOCKS;                                                      // at least, at a time
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/common/stream.h"

namespace sluice::kernels {

inline constexpr int ROWS_THREADS = 256;
// Rows of a thread whose loads are on their way together.
inline constexpr int ROWS_TOGETHER = 2;

template <class Body>
constexpr int rows_blocks() {
  if constexpr (requires { Body::BLOCKS; }) {
    return Body::BLOCKS;
  } else {
    return 1;
  }
}

template <int N, class Body>
__global__ void __launch_bounds__(ROWS_THREADS, rows_blocks<Body>())
    run_rows(const __grid_constant__ Body body, int64_t rows, int64_t columns) {
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (column >= columns) return;
  const int64_t tile = static_cast<int64_t>(blockDim.y) * ROWS_TOGETHER;
  for (int64_t first = blockIdx.y * tile + threadIdx.y; first < rows; first += gridDim.y * tile) {
    typename Body::template Loaded<N> loaded[ROWS_TOGETHER];
#pragma unroll
    for (int u = 0; u < ROWS_TOGETHER; ++u) {
      const int64_t row = first + static_cast<int64_t>(u) * blockDim.y;
      if (row < rows) loaded[u] = body.template load<N>(row, column);
    }
#pragma unroll
    for (int u = 0; u < ROWS_TOGETHER; ++u) {
      const int64_t row = first + static_cast<int64_t>(u) * blockDim.y;
      if (row < rows) body.template store<N>(row, column, loaded[u]);
    }
  }
}

template <int N, class Body>
void launch_rows_of(const Body& body, int64_t rows, int64_t columns, Stream stream) {
  const int64_t packs = (columns + N - 1) / N;
  // Narrow blocks waste few threads at the end of a row; a single row wants them wide.
  const int64_t widest = rows < 4 ? ROWS_THREADS : 64;
  int width = 1;
  while (width < widest && width < packs) width *= 2;
  const dim3 block(width, ROWS_THREADS / width);
  const int64_t tile = static_cast<int64_t>(block.y) * ROWS_TOGETHER;
  const int64_t most_tiles = 65535;  // of a grid's second dimension; the kernel loops over the rest
  const dim3 grid(static_cast<unsigned>((packs + width - 1) / width),
                  static_cast<unsigned>(std::min((rows + tile - 1) / tile, most_tiles)));
  run_rows<N><<<grid, block, 0, stream>>>(body, rows, columns);
}

// With packs of 16 bytes of T where `packable`, otherwise element by element.
template <class T, class Body>
void launch_rows(const Body& body, int64_t rows, int64_t columns, bool packable, Stream stream,
                 const char* name) {
  if (rows <= 0 || columns <= 0) return;
  if (packable) {
    launch_rows_of<PACK<T>>(body, rows, columns, stream);
  } else {
    launch_rows_of<1>(body, rows, columns, stream);
  }
  SLUICE_CHECK_LAUNCH(name);
}

}  // namespace sluice::kernels
