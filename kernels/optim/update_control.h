// Decides an optimizer update where its inputs are, so that the host need not wait for a GPU: the norm of the
// gradient, the factor that clips it, whether the update is to be skipped, and Adam's bias corrections. In
// double on both devices.
#pragma once

#include <cstdint>

#include "kernels/common/stream.h"

namespace sluice::kernels {

struct UpdateControl {
  double gradient_norm = 0;    // NaN when an element of the gradient is not finite
  double gradient_factor = 1;  // clip_limit / gradient_norm where the norm exceeds the limit, otherwise 1
  double correction1 = 1, correction2 = 1;  // 1 - beta_i^updates, this update counted
  int64_t skip = 0;                         // 1: the loss or the norm is not finite
};

template <class T>
struct UpdateControlParams {
  const double* squared_norm = nullptr;  // [1]
  const int64_t* non_finite = nullptr;   // [1]
  const T* loss = nullptr;               // [1]
  double clip_limit = 0;                 // 0: no clipping
  double beta1 = 0.9, beta2 = 0.999;
  int64_t* updates = nullptr;        // [1], incremented unless skipped
  UpdateControl* control = nullptr;  // [1]
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void update_control(const UpdateControlParams<T>& params);
}

namespace cuda {
template <class T>
void update_control(const UpdateControlParams<T>& params);
}

}  // namespace sluice::kernels
