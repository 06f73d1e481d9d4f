// Which process of how many this is, as the launcher says in the environment: Open MPI, Slurm, torchrun or
// MPICH.
#pragma once

#include <string>

namespace sluice {

struct LaunchIdentity {
  std::string launcher = "none";  // "Open MPI", "Slurm", "torchrun", "MPICH"
  int rank = 0;
  int world_size = 1;
  // Whether the launcher prepared its processes for MPI. torchrun did not, nor did srun without --mpi=pmix.
  bool for_mpi = false;
};

// Error(kUsage) when a variable is no number or the rank is outside the world.
LaunchIdentity detect_launch();

}  // namespace sluice
