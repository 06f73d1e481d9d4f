#include "kernels/gemm/column_sums.h"

#include <algorithm>

#include "kernels/common/partial_sums.h"
#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

constexpr int LANES = 32;     // packs of columns of a block
constexpr int ROW_LANES = 8;  // rows a block reads side by side
constexpr int64_t MOST_BLOCKS = 1056;
constexpr int64_t FEWEST_ROWS = 32;  // of a stripe

// Rows are cut into stripes, one block a stripe and 32 packs of columns; each leaves a row of partial sums. A
// function of the sizes alone, so that the order of summation is.
struct Stripes {
  int64_t count = 0, rows = 0;  // rows: of each but the last
};

template <class T>
Stripes stripes_of(const ColumnSums<T>& p) {
  const int64_t slices = (p.columns + LANES * PACK<T> - 1) / (LANES * PACK<T>);
  const int64_t most = std::max<int64_t>(1, MOST_BLOCKS / std::max<int64_t>(1, slices));
  const int64_t wanted = std::clamp<int64_t>(p.rows / FEWEST_ROWS, 1, most);
  const int64_t rows = (p.rows + wanted - 1) / wanted;
  return {rows > 0 ? (p.rows + rows - 1) / rows : 0, rows};
}

template <class T, int N>
__global__ void __launch_bounds__(LANES* ROW_LANES)
    sum_stripes(const __grid_constant__ ColumnSums<T> p, int64_t stripe_rows, float* partial) {
  __shared__ float shared[ROW_LANES][LANES * N];
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * LANES + threadIdx.x) * N;
  const int64_t first = blockIdx.y * stripe_rows;
  const int64_t last = first + stripe_rows < p.rows ? first + stripe_rows : p.rows;
  float sum[N] = {};
  if (column < p.columns) {
#pragma unroll 4
    for (int64_t row = first + threadIdx.y; row < last; row += ROW_LANES) {
      const auto x = Pack<T, N>::load(p.x + row * p.x_stride + column);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += x[i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) shared[threadIdx.y][threadIdx.x * N + i] = sum[i];
  __syncthreads();
  const int thread = threadIdx.y * LANES + threadIdx.x;
  if (thread >= LANES * N) return;
  const int64_t out = static_cast<int64_t>(blockIdx.x) * LANES * N + thread;
  if (out >= p.columns) return;
  float total = 0;
  for (int lane = 0; lane < ROW_LANES; ++lane) total += shared[lane][thread];
  partial[blockIdx.y * p.columns + out] = total;
}

}  // namespace

namespace cuda {

template <class T>
int64_t column_sums_workspace(const ColumnSums<T>& p) {
  return stripes_of(p).count * p.columns * static_cast<int64_t>(sizeof(float));
}

template <class T>
void column_sums(const ColumnSums<T>& p) {
  if (p.columns <= 0) return;
  const Stripes stripes = stripes_of(p);
  auto* partial = static_cast<float*>(p.workspace);
  if (stripes.count > 0) {
    constexpr int N = PACK<T>;
    const auto grid = [&](int64_t pack) {
      return dim3(static_cast<unsigned>((p.columns + LANES * pack - 1) / (LANES * pack)),
                  static_cast<unsigned>(stripes.count));
    };
    if (can_pack<N>(p.x, p.x_stride, p.columns)) {
      sum_stripes<T, N><<<grid(N), dim3(LANES, ROW_LANES), 0, p.stream>>>(p, stripes.rows, partial);
    } else {
      sum_stripes<T, 1><<<grid(1), dim3(LANES, ROW_LANES), 0, p.stream>>>(p, stripes.rows, partial);
    }
    SLUICE_CHECK_LAUNCH("column_sums");
  }
  add_partial_sums(partial, stripes.count, p.columns, p.sums, p.accumulate, p.stream);
}

template void column_sums(const ColumnSums<float>&);
template void column_sums(const ColumnSums<bfloat16>&);
template int64_t column_sums_workspace(const ColumnSums<float>&);
template int64_t column_sums_workspace(const ColumnSums<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
