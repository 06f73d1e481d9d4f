#include "ops/cpu_setup.h"

#include "kernels/gemm/blas_setup.h"

namespace sluice::ops {

void use_fast_cpu_kernels(char** argv) { kernels::cpu::use_fast_blas_kernels(argv); }
const char* cpu_kernels_description() { return kernels::cpu::blas_description(); }

}  // namespace sluice::ops
