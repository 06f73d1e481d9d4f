// Whether attention on sm_90a runs here.
#include "kernels/attention/attention_hopper.h"

#include "kernels/common/compute_capability.h"
#include "kernels/common/tensor_map.h"

namespace sluice::kernels {
namespace {

bool hopper_allowed = true;
GradientPasses passes_wanted = GradientPasses::kByShape;

}  // namespace

void allow_hopper_attention(bool allowed, GradientPasses passes) {
  hopper_allowed = allowed, passes_wanted = passes;
}
GradientPasses cuda::gradient_passes() { return passes_wanted; }

bool cuda::has_hopper_attention() {
#ifdef SLUICE_SM90A
  return hopper_allowed && runs_sm90a() && has_tensor_maps();
#else
  return false;
#endif
}

}  // namespace sluice::kernels
