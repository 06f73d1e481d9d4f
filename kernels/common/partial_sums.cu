#include "core/cuda_check.h"
#include "kernels/common/partial_sums.h"
#include "kernels/common/reduce.cuh"

namespace sluice::kernels::cuda {
namespace {

constexpr int TILE = 32;

// One block a tile of 32 columns: thread (x, y) adds rows y, y + 32, ... of column x, then warp y adds column
// y's.
__global__ void __launch_bounds__(TILE* TILE)
    add_partial_rows(const float* partial, int64_t blocks, int64_t columns, float* sums, bool accumulate) {
  __shared__ float tile[TILE][TILE + 1];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * TILE;
  const int64_t column = first + threadIdx.x;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (int64_t block = threadIdx.y; block < blocks; block += TILE) sum += partial[block * columns + column];
  }
  tile[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  sum = reduce_lanes<Sum>(tile[threadIdx.x][threadIdx.y]);
  const int64_t out = first + threadIdx.y;
  if (threadIdx.x == 0 && out < columns) sums[out] = accumulate ? sums[out] + sum : sum;
}

}  // namespace

void add_partial_sums(const float* partial, int64_t blocks, int64_t columns, float* sums, bool accumulate,
                      Stream stream) {
  if (columns <= 0) return;
  const auto tiles = static_cast<unsigned>((columns + TILE - 1) / TILE);
  add_partial_rows<<<tiles, dim3(TILE, TILE), 0, stream>>>(partial, blocks, columns, sums, accumulate);
  SLUICE_CHECK_LAUNCH("add_partial_sums");
}

}  // namespace sluice::kernels::cuda
