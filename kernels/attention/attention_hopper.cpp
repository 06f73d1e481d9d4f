// Whether attention on sm_90a runs here.
#include "kernels/attention/attention_hopper.h"

#include "kernels/common/compute_capability.h"
#include "kernels/common/tensor_map.h"

namespace sluice::kernels {
namespace {

bool hopper_allowed = true, one_pass = true;

}  // namespace

void allow_hopper_attention(bool allowed, bool in_one_pass) {
  hopper_allowed = allowed, one_pass = in_one_pass;
}
bool cuda::one_pass_allowed() { return one_pass; }

bool cuda::has_hopper_attention() {
#ifdef SLUICE_SM90A
  return hopper_allowed && runs_sm90a() && has_tensor_maps();
#else
  return false;
#endif
}

}  // namespace sluice::kernels
