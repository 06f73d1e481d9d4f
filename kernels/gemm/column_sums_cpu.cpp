#include <algorithm>
#include <vector>

#include "kernels/gemm/column_sums.h"

namespace sluice::kernels::cpu {
namespace {

// Rows summed by one thread. Fixed, so that the sum's order does not depend on how many threads there are.
constexpr int64_t kRowBlock = 256;

}  // namespace

template <class T>
void column_sums(const ColumnSums<T>& p) {
  const int64_t blocks = (p.rows + kRowBlock - 1) / kRowBlock;
  std::vector<T> partial(static_cast<size_t>(blocks * p.columns), T(0));
#pragma omp parallel for if (p.rows * p.columns > 16384)
  for (int64_t block = 0; block < blocks; ++block) {
    T* sums = partial.data() + block * p.columns;
    const int64_t last = std::min(p.rows, (block + 1) * kRowBlock);
    for (int64_t row = block * kRowBlock; row < last; ++row) {
      const T* x = p.x + row * p.x_stride;
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) sums[i] += x[i];
    }
  }
  if (!p.accumulate) std::fill_n(p.sums, p.columns, T(0));
  for (int64_t block = 0; block < blocks; ++block) {
    const T* sums = partial.data() + block * p.columns;
#pragma omp simd
    for (int64_t i = 0; i < p.columns; ++i) p.sums[i] += sums[i];
  }
}

template void column_sums(const ColumnSums<float>&);
template void column_sums(const ColumnSums<double>&);

}  // namespace sluice::kernels::cpu
