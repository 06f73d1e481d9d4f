// A control channel for launchers that know no MPI (torchrun, srun --mpi=none): every rank holds a connection
// to rank 0, which listens where MASTER_ADDR and MASTER_PORT say.
#pragma once

#include <string>
#include <utility>

#include "dist/control_channel.h"

namespace sluice {

struct TcpMeeting {
  std::string address;  // of rank 0, name or number
  int port = 0;
  std::string
      job;  // equal in all processes of one start, unlike those of another that meets at the same place
  double seconds = 300;  // for all to arrive
};

// From MASTER_ADDR and MASTER_PORT, with the job's name of torchrun or Slurm. torchrun listens at MASTER_PORT
// itself, so under it the port is the next one. Error(kUsage) names the variable that is missing.
TcpMeeting meeting_from_environment(double seconds);

class TcpChannel final : public ControlChannel {
 public:
  // Returns when all have met. Error(kUsage) when a rank does not come in time (naming it), is of another job
  // or world size, or comes twice.
  TcpChannel(const TcpMeeting& meeting, int rank, int world_size);
  ~TcpChannel() override;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  std::vector<std::byte> all_gather(std::span<const std::byte> bytes) override;
  // A rank that ended, or whose host is gone.
  std::string failure() const override;
  // The other ranks notice that the connection is gone, with their next call or look at failure().
  [[noreturn]] void abort(int exit_code) override;

 private:
  class Socket {
   public:
    Socket() = default;
    explicit Socket(int descriptor) : descriptor_(descriptor) {}
    ~Socket();
    Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
      std::swap(descriptor_, other.descriptor_);
      return *this;
    }
    int get() const { return descriptor_; }
    bool open() const { return descriptor_ >= 0; }

   private:
    int descriptor_ = -1;
  };

  void gather_arrivals(const TcpMeeting& meeting);
  void arrive(const TcpMeeting& meeting);
  void send_to(int peer, std::span<const std::byte> bytes);
  void receive_from(int peer, std::span<std::byte> bytes);

  int rank_;
  int world_size_;
  std::vector<Socket> peers_;  // at rank 0 one to each other rank, else one at [0]
};

}  // namespace sluice
