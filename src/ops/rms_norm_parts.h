// What the ops that contain an RMSNorm share: the norm of rows h and its gradients, on tensors. h is of the
// compute dtype or of accumulate_dtype() of it.
#pragma once

#include "autograd/tape.h"

namespace sluice::ops {

// Error(kInternal) names `op` when h and weight do not go together.
void check_norm(const char* op, const Tensor& h, const Tensor& weight, DType compute);

// Scales of the rows that backward needs; undefined when there is none.
Tensor rstd_for(const Tensor& h, bool recorded);

// y = rms_norm(h), y of the compute dtype; fills rstd where it is defined.
void normalise(const Tensor& h, const Tensor& weight, double eps, const Tensor& y, const Tensor& rstd);

// Makes y of normalise().
Recipe normalise_recipe(const Tensor& h, const Tensor& weight, double eps, DType compute, const Tensor& rstd);

// Where backward writes; what is undefined is not wanted.
struct NormGradients {
  GradientTarget dh;
  Tensor rounded;  // what dh gets, in the compute dtype
  Tensor dweight;  // added to
};

// dh = dresidual + the norm's gradient; dy and dresidual may be undefined.
void norm_gradients(DType compute, const Tensor& h, const Tensor& weight, const Tensor& rstd,
                    const Tensor& dy, const Tensor& dresidual, const NormGradients& out);

}  // namespace sluice::ops
