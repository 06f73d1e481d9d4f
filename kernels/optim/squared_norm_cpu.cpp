#include "kernels/optim/squared_norm.h"

#include <algorithm>
#include <vector>

namespace sluice::kernels::cpu {
namespace {

// Elements summed by one thread. Fixed, so that the sum's order does not depend on how many threads there
// are.
constexpr int64_t kBlock = 32768;

struct Partial {
  double sum = 0;
  int64_t non_finite = 0;
};

template <class T>
Partial sum_block(const T* x, int64_t count) {
  double sum = 0;
  int64_t non_finite = 0;
#pragma omp simd reduction(+ : sum, non_finite)
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<double>(x[i]);
    sum += value * value;
    non_finite += value - value != 0 ? 1 : 0;
  }
  return {sum, non_finite};
}

}  // namespace

template <class T>
void squared_norm(const SquaredNormParams<T>& p) {
  const int64_t part = p.part > 0 ? p.part : std::max<int64_t>(1, p.count);
  const int64_t blocks_of_part = (part + kBlock - 1) / kBlock, blocks = p.count / part * blocks_of_part;
  std::vector<Partial> partials(static_cast<size_t>(blocks));
#pragma omp parallel for if (blocks > 1)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block % blocks_of_part * kBlock;
    const T* x = p.x + block / blocks_of_part * p.stride + first;
    partials[static_cast<size_t>(block)] = sum_block(x, std::min(kBlock, part - first));
  }
  Partial total;
  for (const Partial& partial : partials) {
    total.sum += partial.sum;
    total.non_finite += partial.non_finite;
  }
  *p.sum = total.sum;
  *p.non_finite = total.non_finite;
}

template void squared_norm(const SquaredNormParams<float>&);
template void squared_norm(const SquaredNormParams<double>&);

}  // namespace sluice::kernels::cpu
