// The CUDA backend's settings: for programs, which do not meet kernels.
#pragma once

namespace sluice::ops {

// Matrix products leave `count` multiprocessors of the GPU to what other streams do. Before the first
// product; nothing in a build without CUDA.
void leave_multiprocessors_free(int count);

}  // namespace sluice::ops
