#include "kernels/gemm/repeat_row.h"

#include <algorithm>

#include "core/bfloat16.h"
#include "core/cuda_check.h"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 256;
constexpr int64_t MOST_BLOCKS = 1056;

template <class T>
__global__ void __launch_bounds__(THREADS)
    repeat(const T* row, int64_t count, int64_t columns, T* y, int64_t y_stride) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < count; i += step) {
    y[i / columns * y_stride + i % columns] = row[i % columns];
  }
}

}  // namespace

namespace cuda {

template <class T>
void repeat_row(const T* row, int64_t rows, int64_t columns, T* y, int64_t y_stride, Stream stream) {
  const int64_t count = rows * columns;
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>(std::min(MOST_BLOCKS, (count + THREADS - 1) / THREADS));
  repeat<T><<<blocks, THREADS, 0, stream>>>(row, count, columns, y, y_stride);
  SLUICE_CHECK_LAUNCH("repeat_row");
}

template void repeat_row(const float*, int64_t, int64_t, float*, int64_t, Stream);
template void repeat_row(const bfloat16*, int64_t, int64_t, bfloat16*, int64_t, Stream);

}  // namespace cuda
}  // namespace sluice::kernels
