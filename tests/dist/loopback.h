// Ranks as threads of one process, over TCP on this host.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "dist/communicator.h"
#include "dist/tcp_channel.h"

namespace sluice::test {

// A port nobody listens at just now.
int free_port();

inline TcpMeeting meeting_at(int port, double seconds = 20) { return {"127.0.0.1", port, "test", seconds}; }

// Control alone: tensors stay what they are.
class LoopbackCommunicator final : public Communicator {
 public:
  LoopbackCommunicator(std::unique_ptr<ControlChannel> channel, World world)
      : Communicator(std::move(channel), std::move(world)) {}
  std::string transport() const override { return "TCP"; }

 private:
  void do_start_all_reduce_sum(const Tensor&) override {}
  void do_start_reduce_scatter_sum(const Tensor&) override {}
  void do_start_all_gather(const Tensor&) override {}
  void do_start_exchange_among(int, int, const Tensor&, const Tensor&) override {}
  void do_wait() override {}
  Mark do_mark() override { return 0; }
  void do_wait_for(Mark) override {}
  void do_broadcast(const Tensor&, int) override {}
};

// Calls `body(rank)` for each rank in a thread of its own and waits for all.
void on_ranks(int world_size, const std::function<void(int rank)>& body);

}  // namespace sluice::test
