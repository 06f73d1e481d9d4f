#include <cmath>
#include <limits>

#include "kernels/optim/update_control.h"

namespace sluice::kernels::cpu {

template <class T>
void update_control(const UpdateControlParams<T>& p) {
  UpdateControl control;
  control.gradient_norm =
      *p.non_finite > 0 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(*p.squared_norm);
  control.skip = std::isfinite(*p.loss) && std::isfinite(control.gradient_norm) ? 0 : 1;
  if (p.clip_limit > 0 && control.gradient_norm > p.clip_limit) {
    control.gradient_factor = p.clip_limit / control.gradient_norm;
  }
  if (control.skip == 0) ++*p.updates;
  const auto updates = static_cast<double>(*p.updates);
  control.correction1 = 1 - std::pow(p.beta1, updates);
  control.correction2 = 1 - std::pow(p.beta2, updates);
  *p.control = control;
}

template void update_control(const UpdateControlParams<float>&);
template void update_control(const UpdateControlParams<double>&);

}  // namespace sluice::kernels::cpu
