#include "dist/communicator.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <set>

#include "core/error.h"

namespace sluice {
namespace {

class SoloCommunicator final : public Communicator {
 public:
  SoloCommunicator() : Communicator(std::make_unique<SoloChannel>(), World{0, 1, 0, 1, {"this host"}}) {}
  std::string transport() const override { return "nothing"; }

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

using HostName = std::array<char, 64>;

HostName this_host() {
  HostName name{};
  SLUICE_CHECK(::gethostname(name.data(), name.size() - 1) == 0, kInternal, "this host has no name");
  return name;
}

}  // namespace

void SoloChannel::abort(int exit_code) { std::_Exit(exit_code); }

std::string World::name_of(int which) const {
  return fmt::format("rank {} on {}", which, hosts.at(static_cast<size_t>(which)));
}

int World::host_count() const {
  return static_cast<int>(std::set<std::string>(hosts.begin(), hosts.end()).size());
}

World discover_world(ControlChannel& channel) {
  World world;
  world.rank = channel.rank();
  world.world_size = channel.world_size();
  const HostName mine = this_host();
  const std::vector<std::byte> bytes = channel.all_gather(std::as_bytes(std::span(mine)));
  for (int rank = 0; rank < world.world_size; ++rank) {
    HostName name{};
    std::memcpy(name.data(), bytes.data() + static_cast<size_t>(rank) * sizeof(name), sizeof(name));
    world.hosts.emplace_back(name.data());
  }
  world.local_size = 0;
  for (int rank = 0; rank < world.world_size; ++rank) {
    if (world.hosts[static_cast<size_t>(rank)] != mine.data()) continue;
    if (rank < world.rank) ++world.local_rank;
    ++world.local_size;
  }
  return world;
}

Communicator::Communicator(std::unique_ptr<ControlChannel> channel, World world)
    : channel_(std::move(channel)), world_(std::move(world)) {}

void Communicator::note(const char* collective, int64_t size) {
  last_name_ = collective;
  last_size_ = size;
  ++collectives_;
}

std::string Communicator::last_collective() const {
  return fmt::format("{} number {} of {}", last_name_.load(), collectives_.load(), last_size_.load());
}

void Communicator::start_all_reduce_sum(const Tensor& tensor) {
  SLUICE_ASSERT(tensor.is_contiguous() && (tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kF64));
  note("all_reduce_sum", tensor.numel());
  do_start_all_reduce_sum(tensor);
}

void Communicator::start_reduce_scatter_sum(const Tensor& tensor) {
  SLUICE_ASSERT(tensor.is_contiguous() && (tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kF64));
  SLUICE_ASSERT(tensor.numel() % world_size() == 0);
  note("reduce_scatter_sum", tensor.numel());
  do_start_reduce_scatter_sum(tensor);
}

void Communicator::start_all_gather(const Tensor& tensor) {
  SLUICE_ASSERT(tensor.is_contiguous() && tensor.numel() % world_size() == 0);
  note("all_gather of a tensor", tensor.numel());
  do_start_all_gather(tensor);
}

void Communicator::start_gather_among(int first, int ranks, const Tensor& mine, const Tensor& all) {
  start_among("gather among ranks", first, ranks, mine.view({1, mine.numel()}), all);
}

void Communicator::start_exchange_among(int first, int ranks, const Tensor& mine, const Tensor& theirs) {
  SLUICE_ASSERT(mine.rank() == 2 && mine.size(0) == ranks);
  start_among("exchange among ranks", first, ranks, mine, theirs);
}

void Communicator::start_among(const char* name, int first, int ranks, const Tensor& sent,
                               const Tensor& received) {
  SLUICE_ASSERT(sent.is_contiguous() && received.is_contiguous() && sent.dtype() == received.dtype());
  SLUICE_ASSERT(first >= 0 && first <= rank() && rank() < first + ranks && first + ranks <= world_size());
  SLUICE_ASSERT((received.shape() == Shape{ranks, sent.size(1)}));
  note(name, received.numel());
  const int own = rank() - first;
  received.narrow(0, own, 1).copy_from(sent.narrow(0, sent.size(0) == 1 ? 0 : own, 1));
  do_start_exchange_among(first, ranks, sent, received);
}

void Communicator::wait() { do_wait(); }

void Communicator::broadcast(const Tensor& tensor, int root) {
  SLUICE_ASSERT(tensor.is_contiguous() && root >= 0 && root < world_size());
  note("broadcast", tensor.numel());
  do_broadcast(tensor, root);
}

void Communicator::barrier() {
  note("barrier", 0);
  const std::byte nothing{};
  channel_->all_gather(std::span(&nothing, 1));
}

void Communicator::abort(int exit_code) {
  channel_->abort(exit_code);
  std::_Exit(exit_code);  // never reached; GCC 12 warns without it
}

std::unique_ptr<Communicator> make_solo_communicator() { return std::make_unique<SoloCommunicator>(); }

Communicator& solo_communicator() {
  static SoloCommunicator communicator;
  return communicator;
}

}  // namespace sluice
