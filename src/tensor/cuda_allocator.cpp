#include "tensor/cuda_allocator.h"

#include <cuda.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>

#include "core/cuda_check.h"
#include "core/environment.h"
#include "core/progress.h"
#include "tensor/device.h"
#include "tensor/free_ranges.h"

namespace sluice {
namespace {

constexpr int64_t kAlignment = 512;
constexpr int64_t kLeastGrowth = int64_t{64} << 20;

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// The driver's functions, found through the runtime so that programs start on machines without a driver.
template <class Function>
Function driver_function(const char* name) {
  void* pointer = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  SLUICE_CUDA_CHECK(cudaGetDriverEntryPointByVersion(name, &pointer, 12000, cudaEnableDefault, &found));
#else
  SLUICE_CUDA_CHECK(cudaGetDriverEntryPoint(name, &pointer, cudaEnableDefault, &found));
#endif
  SLUICE_CHECK(found == cudaDriverEntryPointSuccess, kInternal, "the NVIDIA driver has no {}", name);
  return reinterpret_cast<Function>(pointer);
}

void check_driver(CUresult status, const char* what) {
  SLUICE_CHECK(status == CUDA_SUCCESS, kInternal, "CUDA: {} failed with driver error {}", what,
               static_cast<int>(status));
}

// One range of virtual addresses whose beginning is backed by physical memory.
class MappedRange {
 public:
  MappedRange() {
    SLUICE_CUDA_CHECK(cudaGetDevice(&device_));
    cudaDeviceProp properties{};
    SLUICE_CUDA_CHECK(cudaGetDeviceProperties(&properties, device_));
    SLUICE_CUDA_CHECK(cudaFree(nullptr));  // makes the device's context
    location_.type = CU_MEM_LOCATION_TYPE_DEVICE;
    location_.id = device_;
    const CUmemAllocationProp kind = allocation_kind();
    size_t granularity = 0;
    check_driver(driver_function<decltype(&cuMemGetAllocationGranularity)>("cuMemGetAllocationGranularity")(
                     &granularity, &kind, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED),
                 "cuMemGetAllocationGranularity");
    granularity_ = static_cast<int64_t>(granularity);
    reserved_ = round_up(static_cast<int64_t>(properties.totalGlobalMem), granularity_);
    check_driver(driver_function<decltype(&cuMemAddressReserve)>("cuMemAddressReserve")(
                     &base_, static_cast<size_t>(reserved_), 0, 0, 0),
                 "cuMemAddressReserve");
    create_ = driver_function<decltype(&cuMemCreate)>("cuMemCreate");
    map_ = driver_function<decltype(&cuMemMap)>("cuMemMap");
    set_access_ = driver_function<decltype(&cuMemSetAccess)>("cuMemSetAccess");
    release_ = driver_function<decltype(&cuMemRelease)>("cuMemRelease");
  }

  int64_t mapped() const { return mapped_; }
  char* base() const { return reinterpret_cast<char*>(base_); }

  // Backs at least `bytes` more. Returns how many, or 0 when there is no more memory.
  int64_t grow(int64_t bytes) {
    for (const int64_t wanted : {std::max(bytes, kLeastGrowth), bytes}) {
      const int64_t size = round_up(wanted, granularity_);
      if (mapped_ + size <= reserved_ && map_behind(size)) return size;
    }
    return 0;
  }

 private:
  CUmemAllocationProp allocation_kind() const {
    CUmemAllocationProp kind{};
    kind.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    kind.location = location_;
    return kind;
  }

  bool map_behind(int64_t size) {
    const CUmemAllocationProp kind = allocation_kind();
    CUmemGenericAllocationHandle memory{};
    const CUresult created = create_(&memory, static_cast<size_t>(size), &kind, 0);
    if (created == CUDA_ERROR_OUT_OF_MEMORY) return false;
    check_driver(created, "cuMemCreate");
    const CUdeviceptr at = base_ + static_cast<CUdeviceptr>(mapped_);
    check_driver(map_(at, static_cast<size_t>(size), 0, memory, 0), "cuMemMap");
    CUmemAccessDesc access{};
    access.location = location_;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    check_driver(set_access_(at, static_cast<size_t>(size), &access, 1), "cuMemSetAccess");
    check_driver(release_(memory), "cuMemRelease");  // the mapping keeps it
    mapped_ += size;
    return true;
  }

  int device_ = 0;
  CUmemLocation location_{};
  CUdeviceptr base_ = 0;
  int64_t granularity_ = 0, reserved_ = 0, mapped_ = 0;
  decltype(&cuMemCreate) create_ = nullptr;
  decltype(&cuMemMap) map_ = nullptr;
  decltype(&cuMemSetAccess) set_access_ = nullptr;
  decltype(&cuMemRelease) release_ = nullptr;
};

class CudaAllocator final : public Allocator {
 public:
  void* allocate(int64_t bytes, MemoryClass memory_class) override {
    const int64_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    Pool& pool = pools_.at(open_);
    std::optional<int64_t> begin = pool.free.take(size);
    if (!begin) {
      grow(pool, size - pool.free.free_before(range_.mapped()));
      begin = pool.free.take(size);
    }
    SLUICE_CHECK(
        begin.has_value(), kOutOfMemory,
        "out of GPU memory: {} for {} could not be had; held: {}; free in pieces: {}. Use a smaller "
        "train.micro_batch_sequences, more train.segments, or train.recompute \"selective\" or \"layer\"",
        format_bytes(static_cast<double>(bytes)), name_of(memory_class), counts_.to_string(),
        format_bytes(static_cast<double>(free_bytes())));
    counts_.count(size, memory_class);
    counts_.cached = free_bytes();
    void* pointer = range_.base() + *begin;
    if (poison_) {
      SLUICE_CUDA_CHECK(
          cudaMemsetAsync(pointer, 0xff, static_cast<size_t>(size), compute_stream(Device::kCuda)));
    }
    return pointer;
  }

  void release(void* pointer, int64_t bytes, MemoryClass memory_class) override {
    const int64_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    const int64_t begin = static_cast<char*>(pointer) - range_.base();
    pool_of(begin).free.give(begin, size);
    counts_.count(-size, memory_class);
    counts_.cached = free_bytes();
  }

  MemoryStatistics statistics() const override {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    counts_.reset_peak();
  }

  // Everything free goes to a new pool, and allocations come from it until it is closed.
  int open_pool() {
    const std::lock_guard lock(mutex_);
    SLUICE_ASSERT(open_ == kCommon);
    open_ = next_pool_++;
    Pool& pool = pools_[open_];
    std::swap(pool.free, pools_[kCommon].free);
    pool.owned = pool.free;
    return open_;
  }
  void close_pool() {
    const std::lock_guard lock(mutex_);
    open_ = kCommon;
  }
  void drop_pool(int id) {
    const std::lock_guard lock(mutex_);
    for (const auto& [begin, size] : pools_.at(id).free.ranges()) pools_[kCommon].free.give(begin, size);
    pools_.erase(id);
  }

 private:
  static constexpr int kCommon = 0;
  struct Pool {
    FreeRanges free;
    FreeRanges owned;  // of a graph's pool: what comes back to it
  };

  Pool& pool_of(int64_t begin) {
    for (auto& [id, pool] : pools_) {
      if (id != kCommon && pool.owned.contains(begin)) return pool;
    }
    return pools_[kCommon];
  }

  int64_t free_bytes() const {
    int64_t bytes = 0;
    for (const auto& [id, pool] : pools_) bytes += pool.free.total();
    return bytes;
  }

  static int64_t rounded(int64_t bytes) { return round_up(std::max<int64_t>(bytes, 1), kAlignment); }

  void grow(Pool& pool, int64_t bytes) {
    const int64_t begin = range_.mapped();
    const int64_t grown = range_.grow(bytes);
    if (grown == 0) return;
    pool.free.give(begin, grown);
    if (open_ != kCommon) pool.owned.give(begin, grown);
  }

  mutable std::mutex mutex_;
  MappedRange range_;
  std::map<int, Pool> pools_{{kCommon, {}}};
  int open_ = kCommon, next_pool_ = 1;
  MemoryStatistics counts_;
  bool poison_ = environment::flag("SLUICE_POISON", false);
};

CudaAllocator& instance() {
  std::string why_not;
  SLUICE_CHECK(is_available(Device::kCuda, &why_not), kUsage, "device cuda: {}; use the CPU", why_not);
  // Never destroyed: tensors held by other statics may be released later.
  static CudaAllocator* allocator = new CudaAllocator();
  return *allocator;
}

}  // namespace

Allocator& cuda_allocator() { return instance(); }

GraphMemory::GraphMemory(const std::function<void()>& record) : pool_(instance().open_pool()) {
  try {
    record();
  } catch (...) {
    instance().close_pool();
    instance().drop_pool(pool_);
    throw;
  }
  instance().close_pool();
}

GraphMemory::~GraphMemory() { instance().drop_pool(pool_); }

}  // namespace sluice
