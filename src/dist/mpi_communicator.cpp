#include "dist/mpi_communicator.h"

#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "dist/mpi_channel.h"

namespace sluice {
namespace {

// Of one piece of a tensor; a rank's scratch memory is one piece.
constexpr int64_t kPieceBytes = int64_t{8} << 20;
constexpr int kSliceTag = 1, kSumTag = 2;

class Requests {
 public:
  void receive(void* to, int64_t bytes, int peer, int tag) {
    check_mpi(MPI_Irecv(to, static_cast<int>(bytes), MPI_BYTE, peer, tag, MPI_COMM_WORLD, next()),
              "MPI_Irecv");
  }
  void send(const void* from, int64_t bytes, int peer, int tag) {
    check_mpi(MPI_Isend(from, static_cast<int>(bytes), MPI_BYTE, peer, tag, MPI_COMM_WORLD, next()),
              "MPI_Isend");
  }
  void wait() {
    poll_until([&] {
      int done = 0;
      check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE),
                "MPI_Testall");
      return done != 0;
    });
    requests_.clear();
  }

 private:
  MPI_Request* next() { return &requests_.emplace_back(MPI_REQUEST_NULL); }
  std::vector<MPI_Request> requests_;
};

// One slice of a tensor for each rank.
struct Slices {
  std::vector<int64_t> begin, size;  // elements

  // `count` elements from `first` on, about the same for each.
  static Slices of(int64_t first, int64_t count, int ranks) {
    Slices slices;
    for (int rank = 0; rank < ranks; ++rank) {
      const int64_t begin = count * rank / ranks;
      slices.begin.push_back(first + begin);
      slices.size.push_back(count * (rank + 1) / ranks - begin);
    }
    return slices;
  }
  // Elements [first, first + count) of each of equal parts of `stride` elements.
  static Slices of_parts(int64_t stride, int64_t first, int64_t count, int ranks) {
    Slices slices;
    for (int rank = 0; rank < ranks; ++rank) {
      slices.begin.push_back(rank * stride + first);
      slices.size.push_back(count);
    }
    return slices;
  }
};

class Exchange {
 public:
  explicit Exchange(const World& world) : world_(world) {}

  template <class T>
  void all_reduce(T* data, int64_t count) {
    constexpr int64_t kPiece = kPieceBytes / static_cast<int64_t>(sizeof(T));
    for (int64_t first = 0; first < count; first += kPiece) {
      const Slices slices = Slices::of(first, std::min(kPiece, count - first), world_.world_size);
      sum_mine(data, slices);
      hand_out(data, slices);
    }
  }

  template <class T>
  void reduce_scatter(T* data, int64_t count) {
    each_piece_of_parts<T>(count, [&](const Slices& slices) { sum_mine(data, slices); });
  }

  template <class T>
  void all_gather(T* data, int64_t count) {
    each_piece_of_parts<T>(count, [&](const Slices& slices) { hand_out(data, slices); });
  }

  // Rank first + i is sent the row of so many bytes at sent + i * sent_stride.
  void exchange_among(const std::byte* sent, int64_t sent_stride, std::byte* received, int64_t row, int first,
                      int ranks) {
    for (int64_t begin = 0; begin < row; begin += kPieceBytes) {
      const int64_t size = std::min(kPieceBytes, row - begin);
      for (int peer = first; peer < first + ranks; ++peer) {
        if (peer == world_.rank) continue;
        requests_.receive(received + (peer - first) * row + begin, size, peer, kSumTag);
        requests_.send(sent + (peer - first) * sent_stride + begin, size, peer, kSumTag);
      }
      requests_.wait();
    }
  }

 private:
  template <class T>
  void each_piece_of_parts(int64_t count, const std::function<void(const Slices&)>& body) {
    const int64_t part = count / world_.world_size;
    const int64_t piece =
        std::max<int64_t>(1, kPieceBytes / static_cast<int64_t>(sizeof(T)) / world_.world_size);
    for (int64_t first = 0; first < part; first += piece)
      body(Slices::of_parts(part, first, std::min(piece, part - first), world_.world_size));
  }

  // Leaves the sum over ranks of slice r with rank r.
  template <class T>
  void sum_mine(T* data, const Slices& slices) {
    const int n = world_.world_size, mine = world_.rank;
    const auto at = [](int rank) { return static_cast<size_t>(rank); };
    const int64_t size = slices.size[at(mine)], width = sizeof(T);
    received_.resize(at(n) * static_cast<size_t>(size * width));
    const auto from = [&](int rank) { return reinterpret_cast<T*>(received_.data()) + rank * size; };
    for (int peer = 0; peer < n; ++peer) {
      if (peer != mine) requests_.receive(from(peer), size * width, peer, kSliceTag);
    }
    for (int peer = 0; peer < n; ++peer) {
      if (peer == mine) continue;
      requests_.send(data + slices.begin[at(peer)], slices.size[at(peer)] * width, peer, kSliceTag);
    }
    requests_.wait();
    T* sum = data + slices.begin[at(mine)];
    std::copy_n(sum, size, from(mine));
    std::copy_n(from(0), size, sum);
    for (int rank = 1; rank < n; ++rank) {
      const T* term = from(rank);
      for (int64_t i = 0; i < size; ++i) sum[i] += term[i];
    }
  }

  // Rank r's slice r is copied to all.
  template <class T>
  void hand_out(T* data, const Slices& slices) {
    const int mine = world_.rank;
    for (int peer = 0; peer < world_.world_size; ++peer) {
      if (peer == mine) continue;
      const auto theirs = static_cast<size_t>(peer), own = static_cast<size_t>(mine);
      constexpr int64_t kWidth = sizeof(T);
      requests_.receive(data + slices.begin[theirs], slices.size[theirs] * kWidth, peer, kSumTag);
      requests_.send(data + slices.begin[own], slices.size[own] * kWidth, peer, kSumTag);
    }
    requests_.wait();
  }

  const World& world_;
  std::vector<std::byte> received_;
  Requests requests_;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::unique_ptr<MpiChannel> channel, World world)
      : Communicator(std::move(channel), std::move(world)),
        thread_([this](const std::stop_token& stop) { serve(stop); }) {}
  std::string transport() const override { return "MPI"; }

 private:
  enum class Kind { kAllReduce, kReduceScatter, kAllGather, kExchangeAmong };
  struct Task {
    Kind kind;
    Tensor tensor;
    int first = 0, ranks = 0;  // of kExchangeAmong
    Tensor sent = {};
  };

  void do_start_all_reduce_sum(const Tensor& tensor) override { enqueue({Kind::kAllReduce, tensor}); }
  void do_start_reduce_scatter_sum(const Tensor& tensor) override { enqueue({Kind::kReduceScatter, tensor}); }
  void do_start_all_gather(const Tensor& tensor) override { enqueue({Kind::kAllGather, tensor}); }

  void do_start_exchange_among(int first, int ranks, const Tensor& sent, const Tensor& received) override {
    enqueue({Kind::kExchangeAmong, received, first, ranks, sent});
  }

  void enqueue(Task task) {
    SLUICE_ASSERT(task.tensor.device() == Device::kCpu);
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(task));
      ++started_;
    }
    changed_.notify_all();
  }

  void do_wait() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return queue_.empty() || failure_; });
    if (failure_) std::rethrow_exception(failure_);
  }

  Mark do_mark() override {
    const std::lock_guard lock(mutex_);
    return started_;
  }

  void do_wait_for(Mark mark) override {
    std::unique_lock lock(mutex_);
    const auto left = [this] { return static_cast<Mark>(queue_.size()); };
    changed_.wait(lock, [&] { return started_ - left() >= mark || failure_; });
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
      const Task task = queue_.front();
      lock.unlock();
      std::exception_ptr failure;
      try {
        perform(task);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      failure_ = failure;
      queue_.pop_front();
      changed_.notify_all();
    }
  }

  void perform(const Task& task) {
    const int64_t count = task.tensor.numel();
    auto* data = static_cast<std::byte*>(task.tensor.raw_data());
    if (task.kind == Kind::kExchangeAmong) {
      const int64_t row = task.tensor.bytes() / task.ranks;
      return exchange_.exchange_among(static_cast<const std::byte*>(task.sent.raw_data()),
                                      task.sent.size(0) == 1 ? 0 : row, data, row, task.first, task.ranks);
    }
    if (task.kind == Kind::kAllGather) return exchange_.all_gather(data, task.tensor.bytes());
    dispatch_compute(task.tensor.dtype(), "sum over ranks", [&]<class T>() {
      if (task.kind == Kind::kAllReduce) {
        exchange_.all_reduce(task.tensor.data<T>(), count);
      } else {
        exchange_.reduce_scatter(task.tensor.data<T>(), count);
      }
    });
  }

  Exchange exchange_{world()};
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Task> queue_;  // the first one is under way
  Mark started_ = 0;
  std::exception_ptr failure_;
  std::jthread thread_;  // last: gone before what it uses
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(std::unique_ptr<MpiChannel> channel, World world) {
  return std::make_unique<MpiCommunicator>(std::move(channel), std::move(world));
}

}  // namespace sluice
