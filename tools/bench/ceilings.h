// What this machine can do at best, measured in the run that reports shares of it.
#pragma once

namespace sluice::bench {

struct Ceilings {
  double flops_per_second = 0;  // a 2048 x 2048 x 2048 matrix product in float
  double bytes_per_second = 0;  // a copy of 256 MiB, read and written bytes both counted
};

Ceilings measure_ceilings();

}  // namespace sluice::bench
