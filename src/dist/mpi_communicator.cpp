#include "dist/mpi_communicator.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "dist/mpi_channel.h"

namespace sluice {
namespace {

// Of one piece of a tensor; a rank's scratch memory is one piece.
constexpr int64_t kPieceBytes = int64_t{8} << 20;
constexpr int kSliceTag = 1, kSumTag = 2;

void wait_all(std::vector<MPI_Request>& requests) {
  poll_until([&] {
    int done = 0;
    check_mpi(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE),
              "MPI_Testall");
    return done != 0;
  });
  requests.clear();
}

// Sums `count` elements that all ranks have at `data`.
template <class T>
class OrderedSum {
 public:
  OrderedSum(const World& world, MPI_Datatype type) : world_(world), type_(type) {}

  void run(T* data, int64_t count) {
    constexpr int64_t kPiece = kPieceBytes / static_cast<int64_t>(sizeof(T));
    for (int64_t first = 0; first < count; first += kPiece)
      run_piece(data + first, std::min(kPiece, count - first));
  }

 private:
  void run_piece(T* data, int64_t count) {
    const int n = world_.world_size, mine = world_.rank;
    const auto begin = [&](int rank) { return count * rank / n; };
    const auto size = [&](int rank) { return static_cast<int>(begin(rank + 1) - begin(rank)); };
    received_.resize(static_cast<size_t>(size(mine)) * static_cast<size_t>(n));
    const auto from = [&](int rank) { return received_.data() + static_cast<int64_t>(rank) * size(mine); };
    for (int peer = 0; peer < n; ++peer) {
      if (peer == mine) continue;
      receive(from(peer), size(mine), peer, kSliceTag);
    }
    for (int peer = 0; peer < n; ++peer) {
      if (peer != mine) send(data + begin(peer), size(peer), peer, kSliceTag);
    }
    wait_all(requests_);
    std::copy_n(data + begin(mine), size(mine), from(mine));
    T* sum = data + begin(mine);
    std::copy_n(from(0), size(mine), sum);
    for (int rank = 1; rank < n; ++rank) {
      const T* term = from(rank);
      for (int64_t i = 0; i < size(mine); ++i) sum[i] += term[i];
    }
    for (int peer = 0; peer < n; ++peer) {
      if (peer == mine) continue;
      receive(data + begin(peer), size(peer), peer, kSumTag);
      send(sum, size(mine), peer, kSumTag);
    }
    wait_all(requests_);
  }

  void receive(T* to, int count, int peer, int tag) {
    MPI_Request& request = requests_.emplace_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Irecv(to, count, type_, peer, tag, MPI_COMM_WORLD, &request), "MPI_Irecv");
  }
  void send(const T* from, int count, int peer, int tag) {
    MPI_Request& request = requests_.emplace_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(from, count, type_, peer, tag, MPI_COMM_WORLD, &request), "MPI_Isend");
  }

  const World& world_;
  MPI_Datatype type_;
  std::vector<T> received_;
  std::vector<MPI_Request> requests_;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::unique_ptr<MpiChannel> channel, World world)
      : Communicator(std::move(channel), std::move(world)),
        thread_([this](const std::stop_token& stop) { serve(stop); }) {}
  std::string transport() const override { return "MPI"; }

 private:
  void do_start_all_reduce_sum(const Tensor& tensor) override {
    SLUICE_ASSERT(tensor.device() == Device::kCpu);
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(tensor);
    }
    changed_.notify_all();
  }

  void do_wait() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return queue_.empty() || failure_; });
    if (failure_) std::rethrow_exception(failure_);
  }

  void do_broadcast(const Tensor& tensor, int root) override {
    do_wait();
    SLUICE_ASSERT(tensor.device() == Device::kCpu);
    constexpr int64_t kMostBytes = int64_t{1} << 30;
    auto* bytes = static_cast<std::byte*>(tensor.raw_data());
    for (int64_t first = 0; first < tensor.bytes(); first += kMostBytes) {
      const int count = static_cast<int>(std::min(kMostBytes, tensor.bytes() - first));
      check_mpi(MPI_Bcast(bytes + first, count, MPI_BYTE, root, MPI_COMM_WORLD), "MPI_Bcast");
    }
  }

  void serve(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (changed_.wait(lock, stop, [this] { return !queue_.empty() && !failure_; })) {
      const Tensor tensor = queue_.front();
      lock.unlock();
      std::exception_ptr failure;
      try {
        if (tensor.dtype() == DType::kF32) {
          floats_.run(tensor.data<float>(), tensor.numel());
        } else {
          doubles_.run(tensor.data<double>(), tensor.numel());
        }
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
      queue_.pop_front();
      changed_.notify_all();
    }
  }

  OrderedSum<float> floats_{world(), MPI_FLOAT};
  OrderedSum<double> doubles_{world(), MPI_DOUBLE};
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Tensor> queue_;  // the first one is being summed
  std::exception_ptr failure_;
  std::jthread thread_;  // last: gone before what it uses
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(std::unique_ptr<MpiChannel> channel, World world) {
  return std::make_unique<MpiCommunicator>(std::move(channel), std::move(world));
}

}  // namespace sluice
