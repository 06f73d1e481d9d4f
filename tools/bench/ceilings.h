// What this machine can do at best, measured in the run that reports shares of it.
#pragma once

#include "tensor/allocator.h"

namespace sluice::bench {

struct Ceilings {
  double flops_per_second = 0;  // a square matrix product of random numbers: 2048 in f32 on the CPU, 8192 in
                                // bf16 on a GPU
  double bytes_per_second = 0;  // a copy of 256 MiB (GPU: 1 GiB), read and written bytes both counted
};

Ceilings measure_ceilings(Device device);

}  // namespace sluice::bench
