// The CPU backend's start: for main() functions, which do not meet kernels.
#pragma once

namespace sluice::ops {

// To be called first in main(): may start the program anew with the fast kernels of the BLAS library
// (kernels/gemm/blas_setup.h says why).
void use_fast_cpu_kernels(char** argv);

// "OpenBLAS Cooperlake", for logs.
const char* cpu_kernels_description();

}  // namespace sluice::ops
