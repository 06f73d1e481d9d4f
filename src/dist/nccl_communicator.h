// Tensors in GPU memory over NCCL. Compiled where CUDA and NCCL were found.
#pragma once

#include <memory>

#include "dist/communicator.h"

namespace sluice {

// Chooses this process's GPU: the one that matches its place on the host, or the only one it sees.
// Error(kUsage) when the host has fewer GPUs than processes or two ranks got the same GPU, whose first
// collective would never end; Error(kWatchdog) when NCCL does not come up within `seconds`.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<ControlChannel> channel, World world,
                                                     double seconds);

}  // namespace sluice
