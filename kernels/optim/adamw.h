// AdamW, Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2; same numbers as
// torch.optim.AdamW), over ranges of flat buffers:
//   g = gradient * gradient_factor;   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2;
//   w -= lr * weight_decay * w;   w -= lr * (m / correction1) / (sqrt(v / correction2) + eps),
// where gradient_factor and correction_i = 1 - beta_i^step are read from memory
// (kernels/optim/update_control.h), and nothing is written when that says to skip the update. Arithmetic in
// T.
#pragma once

#include <cstdint>

#include "core/bfloat16.h"
#include "kernels/common/stream.h"
#include "kernels/optim/update_control.h"

namespace sluice::kernels {

// The elements [begin, end) of the buffers and their weight decay.
struct AdamWSegment {
  int64_t begin = 0;
  int64_t end = 0;
  double weight_decay = 0;
};

template <class T>
struct AdamWParams {
  T* weight = nullptr;  // flat, as are gradient, m and v
  const T* gradient = nullptr;
  T* m = nullptr;
  T* v = nullptr;
  const AdamWSegment* segments = nullptr;  // [segment_count], disjoint; elements in none are left alone
  int64_t segment_count = 0;
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const UpdateControl* control = nullptr;  // [1]
  bfloat16* compute_weight = nullptr;      // flat: the new weights rounded; or null
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void adamw(const AdamWParams<T>& params);
}

namespace cuda {
template <class T>
void adamw(const AdamWParams<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
