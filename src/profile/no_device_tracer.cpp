#include "profile/device_tracer.h"

namespace sluice::profile {

std::unique_ptr<DeviceTracer> make_device_tracer(std::string& why_not) {
#ifdef SLUICE_HAVE_CUDA
  why_not = "this program was built without CUPTI (cupti.h of the CUDA toolkit)";
#else
  why_not = "this program was built without CUDA";
#endif
  return nullptr;
}

}  // namespace sluice::profile
