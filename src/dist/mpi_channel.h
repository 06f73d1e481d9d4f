// MPI of this process: started with the first object and finished with it. Compiled where MPI was found.
#pragma once

#include <functional>

#include "dist/control_channel.h"

namespace sluice {

class MpiChannel final : public ControlChannel {
 public:
  // Error(kUsage) when MPI counts other processes than the launcher said: then program and mpirun are of
  // different MPI installations, and each process would train alone.
  explicit MpiChannel(int expected_world_size);
  // Waits for the others.
  ~MpiChannel() override;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  std::vector<std::byte> all_gather(std::span<const std::byte> bytes) override;
  [[noreturn]] void abort(int exit_code) override;

 private:
  int rank_ = 0;
  int world_size_ = 1;
};

// Throws Error(kInternal) with MPI's words unless `status` is MPI_SUCCESS.
void check_mpi(int status, const char* call);

// Calls `done` until it says so, giving the processor away in between: MPI's own waits keep a core busy,
// which backward and the other ranks of the host need.
void poll_until(const std::function<bool()>& done);

}  // namespace sluice
