// Tensors in host memory over MPI.
#pragma once

#include <memory>

#include "dist/communicator.h"

namespace sluice {

class MpiChannel;

// Sums are reduce-scatter and all-gather by point-to-point messages: rank r receives slice r of every rank,
// adds them from rank 0 upwards, and sends the result to all. 2 (N - 1) / N of the tensor travel each way, as
// in a ring (half of that each where only one of the two is asked for), and the bits do not depend on the
// algorithms MPI would choose. Tensors go in pieces, so that scratch memory and MPI's 32-bit counts stay
// small. A thread of its own does it.
std::unique_ptr<Communicator> make_mpi_communicator(std::unique_ptr<MpiChannel> channel, World world);

}  // namespace sluice
