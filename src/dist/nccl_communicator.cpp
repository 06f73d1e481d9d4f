#include "dist/nccl_communicator.h"

#include <nccl.h>

#include <array>
#include <chrono>
#include <thread>

#include "core/cuda_check.h"
#include "core/log.h"
#include "tensor/device.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;
using Uuid = std::array<char, 16>;

// Collectives enqueue work; only the first ones set connections up and may take long.
constexpr double kEnqueueSeconds = 300;

// The outcome of a call on a non-blocking communicator, once it is known.
ncclResult_t settle(ncclComm_t comm, ncclResult_t status, double seconds) {
  const auto start = Clock::now();
  while (status == ncclInProgress) {
    // Most calls are done after microseconds, of which sleeping would make many more.
    const std::chrono::duration<double> waited = Clock::now() - start;
    if (waited.count() >= seconds) return ncclInProgress;
    if (waited < std::chrono::milliseconds(1)) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &status);
    if (asked != ncclSuccess) return asked;
  }
  return status;
}

void check(ncclComm_t comm, ncclResult_t status, double seconds, const char* call) {
  status = settle(comm, status, seconds);
  SLUICE_CHECK(
      status != ncclInProgress, kWatchdog,
      "NCCL: {} is not done after {} s: a rank is missing, or the network between the hosts is not what "
      "NCCL_SOCKET_IFNAME says; NCCL_DEBUG=INFO tells more",
      call, seconds);
  SLUICE_CHECK(status == ncclSuccess, kInternal, "NCCL: {} failed: {} ({})", call, ncclGetErrorString(status),
               ncclGetLastError(comm));
}

class Event {
 public:
  Event() { SLUICE_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  // What `second` is given from now on waits for what `first` was given so far.
  void order(cudaStream_t first, cudaStream_t second) const {
    record(first);
    hold(second);
  }
  void record(cudaStream_t stream) const { SLUICE_CUDA_CHECK(cudaEventRecord(event_, stream)); }
  void hold(cudaStream_t stream) const { SLUICE_CUDA_CHECK(cudaStreamWaitEvent(stream, event_, 0)); }

 private:
  cudaEvent_t event_ = nullptr;
};

void choose_gpu(const World& world) {
  int count = 0;
  SLUICE_CUDA_CHECK(cudaGetDeviceCount(&count));
  // Some launchers show each process its own GPU alone.
  const int index = count == 1 ? 0 : world.local_rank;
  SLUICE_CHECK(index < count, kUsage, "{} is process {} of {} there, but the host shows {} GPUs",
               world.name_of(world.rank), world.local_rank + 1, world.local_size, count);
  select_gpu(index);
}

// NCCL would hang or fail in words of its own.
void refuse_shared_gpus(ControlChannel& channel, const World& world) {
  int device = 0;
  cudaDeviceProp properties{};
  SLUICE_CUDA_CHECK(cudaGetDevice(&device));
  SLUICE_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  Uuid mine{};
  static_assert(sizeof(properties.uuid) == sizeof(mine));
  std::memcpy(mine.data(), &properties.uuid, sizeof(mine));
  const std::vector<std::byte> bytes = channel.all_gather(std::as_bytes(std::span(mine)));
  std::vector<Uuid> all(static_cast<size_t>(world.world_size));
  std::memcpy(all.data(), bytes.data(), bytes.size());
  for (int rank = 1; rank < world.world_size; ++rank) {
    for (int other = 0; other < rank; ++other) {
      SLUICE_CHECK(all[static_cast<size_t>(rank)] != all[static_cast<size_t>(other)], kUsage,
                   "{} and {} use the same GPU; start one process per GPU", world.name_of(other),
                   world.name_of(rank));
    }
  }
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<ControlChannel> control, World where, double seconds)
      : Communicator(std::move(control), std::move(where)) {
    // Rank 0's id is the one that counts.
    ncclUniqueId id{};
    if (is_root()) check(nullptr, ncclGetUniqueId(&id), seconds, "ncclGetUniqueId");
    const std::vector<std::byte> ids = channel().all_gather(std::as_bytes(std::span(&id, 1)));
    std::memcpy(&id, ids.data(), sizeof(id));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const ncclResult_t started = ncclCommInitRankConfig(&comm_.value, world_size(), id, rank(), &config);
    check(comm_.value, started, seconds, "ncclCommInitRankConfig");
  }

  ~NcclCommunicator() override {
    // All ranks get here together. One that does not would hold up the rest, so there is a limit.
    cudaStreamSynchronize(stream_.value);
    const ncclResult_t status = settle(comm_.value, ncclCommFinalize(comm_.value), 30);
    if (status != ncclSuccess) log::warning("NCCL did not end in order: {}", ncclGetErrorString(status));
    comm_.finalized = status == ncclSuccess;
  }

  std::string transport() const override {
    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess) return "NCCL";
    return fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
  }

  std::string failure() const override {
    ncclResult_t status = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_.value, &status);
    if (asked == ncclSuccess && (status == ncclSuccess || status == ncclInProgress)) {
      return Communicator::failure();
    }
    return fmt::format("NCCL: {}", ncclGetErrorString(asked == ncclSuccess ? status : asked));
  }

 private:
  void do_start_all_reduce_sum(const Tensor& tensor) override {
    after_compute(tensor);
    check(comm_.value,
          ncclAllReduce(tensor.raw_data(), tensor.raw_data(), static_cast<size_t>(tensor.numel()),
                        type_of(tensor), ncclSum, comm_.value, stream_.value),
          kEnqueueSeconds, "ncclAllReduce");
  }

  // In place: a rank's part is where NCCL expects it, at its number times the length of one.
  void do_start_reduce_scatter_sum(const Tensor& tensor) override {
    after_compute(tensor);
    const int64_t part = tensor.numel() / world_size();
    check(comm_.value,
          ncclReduceScatter(tensor.raw_data(), part_of(tensor, world_size(), rank()),
                            static_cast<size_t>(part), type_of(tensor), ncclSum, comm_.value, stream_.value),
          kEnqueueSeconds, "ncclReduceScatter");
  }

  void do_start_all_gather(const Tensor& tensor) override {
    after_compute(tensor);
    check(comm_.value,
          ncclAllGather(part_of(tensor, world_size(), rank()), tensor.raw_data(),
                        static_cast<size_t>(tensor.bytes() / world_size()), ncclUint8, comm_.value,
                        stream_.value),
          kEnqueueSeconds, "ncclAllGather");
  }

  void do_start_exchange_among(int first, int ranks, const Tensor& sent, const Tensor& received) override {
    after_compute(received);
    const auto bytes = static_cast<size_t>(received.bytes() / ranks);
    const auto rows = static_cast<int>(sent.size(0));
    // Inside a group calls are noted only; its end says how they went.
    const auto note = [](ncclResult_t status, const char* call) {
      SLUICE_CHECK(status == ncclSuccess || status == ncclInProgress, kInternal, "NCCL: {} failed: {}", call,
                   ncclGetErrorString(status));
    };
    note(ncclGroupStart(), "ncclGroupStart");
    for (int peer = first; peer < first + ranks; ++peer) {
      if (peer == rank()) continue;
      note(ncclSend(part_of(sent, rows, rows == 1 ? 0 : peer - first), bytes, ncclUint8, peer, comm_.value,
                    stream_.value),
           "ncclSend");
      note(ncclRecv(part_of(received, ranks, peer - first), bytes, ncclUint8, peer, comm_.value,
                    stream_.value),
           "ncclRecv");
    }
    check(comm_.value, ncclGroupEnd(), kEnqueueSeconds, "ncclGroupEnd");
  }

  void do_wait() override { event_.order(stream_.value, compute_stream(Device::kCuda)); }

  void do_broadcast(const Tensor& tensor, int root) override {
    after_compute(tensor);
    check(comm_.value,
          ncclBroadcast(tensor.raw_data(), tensor.raw_data(), static_cast<size_t>(tensor.bytes()), ncclUint8,
                        root, comm_.value, stream_.value),
          kEnqueueSeconds, "ncclBroadcast");
    do_wait();
  }

  Mark do_mark() override {
    marks_[next_mark_ % marks_.size()].record(stream_.value);
    return static_cast<Mark>(next_mark_++);
  }

  // Where a mark's event was used again, it stands for a later place, which is as good.
  void do_wait_for(Mark mark) override {
    marks_[static_cast<size_t>(mark) % marks_.size()].hold(compute_stream(Device::kCuda));
  }

  static ncclDataType_t type_of(const Tensor& tensor) {
    return tensor.dtype() == DType::kF64 ? ncclFloat64 : ncclFloat32;
  }
  static void* part_of(const Tensor& tensor, int parts, int which) {
    return static_cast<std::byte*>(tensor.raw_data()) + tensor.bytes() / parts * which;
  }

  void after_compute(const Tensor& tensor) const {
    SLUICE_ASSERT(tensor.device() == Device::kCuda);
    event_.order(compute_stream(Device::kCuda), stream_.value);
  }

  struct Stream {
    // First in line for free multiprocessors: others wait for what travels, on all GPUs.
    Stream() {
      int least = 0, greatest = 0;
      SLUICE_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
      SLUICE_CUDA_CHECK(cudaStreamCreateWithPriority(&value, cudaStreamNonBlocking, greatest));
    }
    ~Stream() { cudaStreamDestroy(value); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    cudaStream_t value = nullptr;
  };
  struct Comm {
    Comm() = default;
    ~Comm() {
      if (value == nullptr) return;
      if (finalized) {
        ncclCommDestroy(value);
      } else {
        ncclCommAbort(value);
      }
    }
    Comm(const Comm&) = delete;
    Comm& operator=(const Comm&) = delete;
    ncclComm_t value = nullptr;
    bool finalized = false;
  };

  Stream stream_;
  Event event_;
  std::array<Event, 64> marks_;
  size_t next_mark_ = 0;
  Comm comm_;  // last: gone before its stream
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<ControlChannel> channel, World world,
                                                     double seconds) {
  choose_gpu(world);
  refuse_shared_gpus(*channel, world);
  return std::make_unique<NcclCommunicator>(std::move(channel), std::move(world), seconds);
}

}  // namespace sluice
