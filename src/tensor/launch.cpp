#include "tensor/launch.h"

namespace sluice {

void fail_without_kernel(const char* kernel, DType dtype, Device device) {
  SLUICE_FAIL(kInternal, "[{}] has no {} implementation for dtype {}", kernel, name_of(device),
              name_of(dtype));
}

Tensor scratch(int64_t bytes, Device device) {
  const MemoryClassScope memory(MemoryClass::kWorkspace);
  return Tensor::empty(Shape{(bytes + 3) / 4}, DType::kF32, device);
}

}  // namespace sluice
