#include "core/cuda_check.h"
#include "kernels/common/reduce.cuh"
#include "kernels/loss/scaled_sum.h"

namespace sluice::kernels {
namespace {

constexpr int THREADS = 1024;

// One block: the sums of this project are over the tokens of a batch.
__global__ void __launch_bounds__(THREADS) sum_all(const __grid_constant__ ScaledSumParams<float> p) {
  __shared__ double shared[WARP];
  double sum = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < p.count; i += THREADS) sum += static_cast<double>(p.x[i]);
  sum = reduce_block<Sum>(sum, shared);
  if (threadIdx.x == 0) *p.y = static_cast<float>(p.factor * sum);
}

}  // namespace

namespace cuda {

template <>
void scaled_sum(const ScaledSumParams<float>& p) {
  sum_all<<<1, THREADS, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("scaled_sum");
}

}  // namespace cuda
}  // namespace sluice::kernels
