#include "kernels/common/cuda_device.h"

namespace sluice::kernels {

bool built_with_cuda() { return false; }
std::vector<CudaDevice> cuda_devices() { return {}; }

}  // namespace sluice::kernels
