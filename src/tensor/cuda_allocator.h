// Device memory out of one growing range of virtual addresses.
//
// Physical memory is mapped at the range's end as it is needed and kept; requests are cut from the smallest
// free stretch that fits and neighbours grow together again when freed. So there is one pool for all sizes, a
// step allocates without asking the driver, and what is held exceeds what is used by little. Memory is reused
// in the order of the compute stream: nothing waits.
#pragma once

#include <functional>

#include "tensor/allocator.h"

namespace sluice {

// Of the current GPU. Error(kUsage) in a build without CUDA or on a machine without a GPU.
Allocator& cuda_allocator();

// Memory that a recorded graph writes again at every replay, and that nothing else may hold meanwhile: all
// that `record` allocates and frees, cut from what is free when it starts. Given back by the destructor.
class GraphMemory {
 public:
  explicit GraphMemory(const std::function<void()>& record);
  ~GraphMemory();
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;

 private:
  int pool_ = 0;
};

}  // namespace sluice
