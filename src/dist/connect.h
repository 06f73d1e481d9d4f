// From how this process was started to a communicator.
#pragma once

#include <memory>

#include "dist/communicator.h"
#include "dist/launch.h"

namespace sluice {

// Meets the other processes and returns when all are there: over MPI where the launcher prepared it, else
// over TCP. For a GPU it chooses this process's own before anything else uses one. Error(kUsage): what this
// build or launcher lacks, ranks that do not come within `seconds`, two ranks on one GPU.
std::unique_ptr<Communicator> connect(const LaunchIdentity& identity, Device device, double seconds);

// "4 ranks on 2 hosts, started by Open MPI, sums over NCCL 2.28.9".
std::string describe(const LaunchIdentity& identity, const Communicator& communicator);

}  // namespace sluice
