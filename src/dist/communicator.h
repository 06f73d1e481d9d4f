// Sums and copies of tensors over all processes of a run. Every rank makes the same calls in the same order.
//
//   communicator.start_all_reduce_sum(bucket);   // may overlap with what is computed next
//   communicator.wait();                         // from here on `bucket` holds the sum
//
// One process: nothing happens. CPU tensors travel by MPI and are added in the order of ranks, so that the
// result depends on nothing but the world size; GPU tensors travel by NCCL on a stream beside the compute
// stream.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "dist/control_channel.h"
#include "tensor/tensor.h"

namespace sluice {

// Who is where.
struct World {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  // among the processes of this host
  int local_size = 1;
  std::vector<std::string> hosts;  // of each rank

  // "rank 2 on node-17".
  std::string name_of(int rank) const;
  int host_count() const;
};

// Asks every rank for its host.
World discover_world(ControlChannel& channel);

class Communicator {
 public:
  // A place in the order of what was started.
  using Mark = int64_t;

  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const World& world() const { return world_; }
  int rank() const { return world_.rank; }
  int world_size() const { return world_.world_size; }
  bool is_root() const { return world_.rank == 0; }

  // Adds the tensors of all ranks and leaves the sum in each. f32 or f64, contiguous, in the memory of the
  // device the communicator serves; not to be touched before wait(), which on a GPU only orders streams.
  void start_all_reduce_sum(const Tensor& tensor);
  // The same, but rank r is given slice r of world_size() equal ones alone; what the others hold then is
  // nobody's.
  void start_reduce_scatter_sum(const Tensor& tensor);
  // Rank r's slice r of world_size() equal ones, of any dtype, is copied to all.
  void start_all_gather(const Tensor& tensor);
  // Among the ranks first to first + ranks - 1, this one included: rank first + i's `mine`, contiguous and of
  // any dtype, becomes row i of `all` [ranks, mine.numel()]. Other groups do the same at the same time.
  void start_gather_among(int first, int ranks, const Tensor& mine, const Tensor& all);
  // The same ranks: row i of `mine` [ranks, n] becomes this rank's row of rank first + i's `theirs`
  // [ranks, n].
  void start_exchange_among(int first, int ranks, const Tensor& mine, const Tensor& theirs);
  void wait();
  // Behind all that was started so far; wait_for(mark) waits for that alone.
  Mark mark() { return do_mark(); }
  void wait_for(Mark mark) { do_wait_for(mark); }
  void all_reduce_sum(const Tensor& tensor) {
    start_all_reduce_sum(tensor);
    wait();
  }
  // Copies rank `root`'s tensor to all others.
  void broadcast(const Tensor& tensor, int root);

  // A small structure of every rank, in the order of ranks; tensors may be under way.
  template <class S>
  std::vector<S> all_gather(const S& value) {
    static_assert(std::is_trivially_copyable_v<S>);
    note("all_gather", sizeof(S));
    const std::vector<std::byte> bytes = channel_->all_gather(std::as_bytes(std::span(&value, 1)));
    std::vector<S> all(static_cast<size_t>(world_size()));
    std::memcpy(static_cast<void*>(all.data()), bytes.data(), bytes.size());
    return all;
  }
  // Returns when all ranks have come here.
  void barrier();

  // Ends the whole job, see ControlChannel::abort.
  [[noreturn]] void abort(int exit_code);

  // "all_reduce_sum number 812 of 6553600 elements": the newest call, for whoever looks for a hang. From any
  // thread.
  std::string last_collective() const;
  virtual std::string transport() const = 0;  // "MPI", "NCCL 2.28.9", "nothing"
  // What went wrong with the connection since, or "". From any thread.
  virtual std::string failure() const { return channel_->failure(); }

 protected:
  Communicator(std::unique_ptr<ControlChannel> channel, World world);
  ControlChannel& channel() { return *channel_; }

  virtual void do_start_all_reduce_sum(const Tensor& tensor) = 0;
  virtual void do_start_reduce_scatter_sum(const Tensor& tensor) = 0;
  virtual void do_start_all_gather(const Tensor& tensor) = 0;
  // Rank first + i gets row i of `sent`, or the only row, and its own comes to row i of `received`
  // [ranks, n], where this rank's is already.
  virtual void do_start_exchange_among(int first, int ranks, const Tensor& sent, const Tensor& received) = 0;
  virtual void do_wait() = 0;
  virtual Mark do_mark() = 0;
  virtual void do_wait_for(Mark mark) = 0;
  virtual void do_broadcast(const Tensor& tensor, int root) = 0;

 private:
  void start_among(const char* name, int first, int ranks, const Tensor& sent, const Tensor& received);
  void note(const char* collective, int64_t size);

  std::unique_ptr<ControlChannel> channel_;
  World world_;
  std::atomic<const char*> last_name_{"none"};
  std::atomic<int64_t> last_size_{0};
  std::atomic<int64_t> collectives_{0};
};

std::unique_ptr<Communicator> make_solo_communicator();
// One for whoever is alone anyway.
Communicator& solo_communicator();

}  // namespace sluice
