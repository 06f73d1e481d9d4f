// Makes the BLAS library use this processor's vector units.
#pragma once

namespace sluice::kernels::cpu {

// OpenBLAS picks its kernels by processor model when it is loaded, and on models it does not know (newer
// ones, and many virtual machines) it falls back to SSE2: a quarter of the speed. Its one remedy,
// OPENBLAS_CORETYPE, is read at load time, so this starts the program anew with that variable set. To be
// called first in main(); does nothing when the variable is set or the library chose well. `argv` is main's.
void use_fast_blas_kernels(char** argv);

// "OpenBLAS Cooperlake", for logs and benchmarks.
const char* blas_description();

}  // namespace sluice::kernels::cpu
