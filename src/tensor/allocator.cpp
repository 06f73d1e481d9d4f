#include "tensor/allocator.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/environment.h"
#include "core/error.h"
#include "core/progress.h"
#include "tensor/cuda_allocator.h"

namespace sluice {
namespace {

constexpr int64_t kAlignment = 64;
// Freed blocks beyond this are given back: evaluation at growing lengths would otherwise keep one of each
// size.
constexpr int64_t kLeastCacheLimit = int64_t{512} << 20;

// Sizes are rounded so that nearly equal requests share blocks: to 1/8 of the next power of two.
int64_t rounded(int64_t bytes) {
  const int64_t least = std::max<int64_t>(bytes, kAlignment);
  const auto step =
      std::max<int64_t>(kAlignment, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(least))) / 8);
  return (least + step - 1) / step * step;
}

class CpuAllocator final : public Allocator {
 public:
  ~CpuAllocator() override { trim(); }

  void* allocate(int64_t bytes, MemoryClass memory_class) override {
    const int64_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    void* pointer = take_cached(size);
    if (pointer == nullptr) {
      pointer = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
      if (pointer == nullptr) {
        trim();
        pointer = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
      }
    }
    SLUICE_CHECK(
        pointer != nullptr, kOutOfMemory,
        "out of memory: {} for {} could not be had; held: {}. Use a smaller micro_batch_sequences, more "
        "segments or train.recompute \"layer\"",
        format_bytes(static_cast<double>(bytes)), name_of(memory_class), statistics_.to_string());
    statistics_.count(size, memory_class);
    if (poison_) std::memset(pointer, 0xff, static_cast<size_t>(size));
    return pointer;
  }

  void release(void* pointer, int64_t bytes, MemoryClass memory_class) override {
    const int64_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    statistics_.count(-size, memory_class);
    if (!use_cache_) return std::free(pointer);
    free_[size].push_back(pointer);
    statistics_.cached += size;
    if (statistics_.cached > std::max(kLeastCacheLimit, statistics_.peak)) trim();
  }

  MemoryStatistics statistics() const override {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    statistics_.reset_peak();
  }

 private:
  void* take_cached(int64_t size) {
    const auto found = free_.find(size);
    if (found == free_.end() || found->second.empty()) return nullptr;
    void* pointer = found->second.back();
    found->second.pop_back();
    statistics_.cached -= size;
    return pointer;
  }

  void trim() {
    for (auto& [size, blocks] : free_) {
      for (void* block : blocks) std::free(block);
    }
    free_.clear();
    statistics_.cached = 0;
  }

  mutable std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  MemoryStatistics statistics_;
  bool poison_ = environment::flag("SLUICE_POISON", false);
#ifdef SLUICE_SANITIZED
  bool use_cache_ = false;
#else
  bool use_cache_ = environment::flag("SLUICE_CACHE", true);
#endif
};

thread_local MemoryClass current_class = MemoryClass::kActivations;

}  // namespace

const char* name_of(Device device) { return device == Device::kCpu ? "cpu" : "cuda"; }

const char* name_of(MemoryClass memory_class) {
  switch (memory_class) {
    case MemoryClass::kWeights:
      return "weights";
    case MemoryClass::kGradients:
      return "gradients";
    case MemoryClass::kOptimizer:
      return "optimizer";
    case MemoryClass::kActivations:
      return "activations";
    case MemoryClass::kWorkspace:
      return "workspace";
  }
  return "unknown";
}

void MemoryStatistics::count(int64_t bytes, MemoryClass memory_class) {
  const auto index = static_cast<size_t>(memory_class);
  current += bytes;
  current_of[index] += bytes;
  peak = std::max(peak, current);
  peak_of[index] = std::max(peak_of[index], current_of[index]);
}

void MemoryStatistics::reset_peak() {
  peak = current;
  peak_of = current_of;
}

std::string MemoryStatistics::to_string() const {
  std::string text;
  for (int i = 0; i < kMemoryClasses; ++i) {
    text += fmt::format("{} {}, ", name_of(static_cast<MemoryClass>(i)),
                        format_bytes(static_cast<double>(current_of[i])));
  }
  return text + "peak " + format_bytes(static_cast<double>(peak));
}

Allocator& allocator_of(Device device) {
  if (device == Device::kCuda) return cuda_allocator();
  // Never destroyed: tensors held by other statics may be released later.
  static CpuAllocator* instance = new CpuAllocator();
  return *instance;
}

MemoryClassScope::MemoryClassScope(MemoryClass memory_class) : previous_(current_class) {
  current_class = memory_class;
}
MemoryClassScope::~MemoryClassScope() { current_class = previous_; }
MemoryClass MemoryClassScope::current() { return current_class; }

}  // namespace sluice
