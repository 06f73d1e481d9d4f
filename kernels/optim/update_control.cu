#include "core/cuda_check.h"
#include "kernels/optim/update_control.h"

namespace sluice::kernels {
namespace {

__global__ void decide(const __grid_constant__ UpdateControlParams<float> p) {
  UpdateControl control;
  control.gradient_norm = *p.non_finite > 0 ? nan("") : sqrt(*p.squared_norm);
  control.skip = isfinite(*p.loss) && isfinite(control.gradient_norm) ? 0 : 1;
  if (p.clip_limit > 0 && control.gradient_norm > p.clip_limit) {
    control.gradient_factor = p.clip_limit / control.gradient_norm;
  }
  if (control.skip == 0) ++*p.updates;
  const auto updates = static_cast<double>(*p.updates);
  control.correction1 = 1 - pow(p.beta1, updates);
  control.correction2 = 1 - pow(p.beta2, updates);
  *p.control = control;
}

}  // namespace

namespace cuda {

template <>
void update_control(const UpdateControlParams<float>& p) {
  decide<<<1, 1, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("update_control");
}

}  // namespace cuda
}  // namespace sluice::kernels
