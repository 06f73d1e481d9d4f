// Device memory by class of use, from a cache of freed blocks: a training step asks for the same sizes again
// and again, and fresh pages cost more than the arithmetic on them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace sluice {

enum class Device { kCpu, kCuda };
const char* name_of(Device device);

enum class MemoryClass { kWeights, kGradients, kOptimizer, kActivations, kWorkspace };
inline constexpr int kMemoryClasses = 5;
const char* name_of(MemoryClass memory_class);

// Bytes held by live tensors. `peak` is the highest total, `peak_of` the highest of each class.
struct MemoryStatistics {
  std::array<int64_t, kMemoryClasses> current_of{};
  std::array<int64_t, kMemoryClasses> peak_of{};
  int64_t current = 0;
  int64_t peak = 0;
  int64_t cached = 0;  // freed, kept for reuse

  void count(int64_t bytes, MemoryClass memory_class);  // allocated, or freed when negative
  void reset_peak();
  std::string to_string() const;  // "weights 12.0 MiB, activations 1.5 GiB, ... peak 2.1 GiB"
};

class Allocator {
 public:
  virtual ~Allocator() = default;
  // At least `bytes` bytes, aligned to 64; uninitialised. Error(kOutOfMemory) names the request and what is
  // held.
  virtual void* allocate(int64_t bytes, MemoryClass memory_class) = 0;
  virtual void release(void* pointer, int64_t bytes, MemoryClass memory_class) = 0;
  virtual MemoryStatistics statistics() const = 0;
  virtual void reset_peak() = 0;
};

// The allocator of a device; Error(kUsage) where the build has no backend for it.
Allocator& allocator_of(Device device);

// While it lives, tensors made by this thread without an explicit class count as `memory_class`.
class MemoryClassScope {
 public:
  explicit MemoryClassScope(MemoryClass memory_class);
  ~MemoryClassScope();
  MemoryClassScope(const MemoryClassScope&) = delete;
  MemoryClassScope& operator=(const MemoryClassScope&) = delete;
  static MemoryClass current();

 private:
  MemoryClass previous_;
};

}  // namespace sluice
