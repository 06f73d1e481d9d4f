#include "ops/gpu_setup.h"

#include "kernels/gemm/gemm.h"

namespace sluice::ops {

void leave_multiprocessors_free([[maybe_unused]] int count) {
#ifdef SLUICE_HAVE_CUDA
  kernels::cuda::leave_multiprocessors_free(count);
#endif
}

}  // namespace sluice::ops
