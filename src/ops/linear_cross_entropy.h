// Output projection and cross-entropy in one op, chunk of rows by chunk of rows, so that logits [N, V] never
// exist whole (formula in kernels/loss/cross_entropy.h).
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

struct LinearCrossEntropyOptions {
  int32_t ignore_index = -100;
  // What the sum of the token losses is divided by; 0: the number of labels that are not ignored.
  // Micro-batches of one step pass the step's total, so that their losses and gradients add up.
  double denominator = 0;
  int64_t chunk_rows = 0;  // rows whose logits exist at a time; 0: as many as fit 16 MiB
};

// x [N, C], weight [V, C], labels i32 [N] -> a scalar (rank 0): sum_n nll_n / denominator, 0 when every label
// is ignored. When recording, the gradients are computed in the forward pass, while a chunk's logits are in
// cache; backward scales them. The definition: z = linear(x, weight); the mean over labels != ignore_index of
// log(sum_j e^(z_j)) - z_label. Error(kData) names the first label outside [0, V) that is not ignore_index,
// and its position. On a GPU nobody waits to look at labels: the denominator must be given, and a bad label
// makes the loss NaN. The loss is f32 for bf16.
Variable linear_cross_entropy(const Variable& x, const Variable& weight, const Tensor& labels,
                              const LinearCrossEntropyOptions& options = {});

// The loss of each token, [N] in x's dtype (f32 for bf16); 0 where the label is ignored. No gradient.
Tensor cross_entropy_per_token(const Tensor& x, const Tensor& weight, const Tensor& labels,
                               int32_t ignore_index = -100, int64_t chunk_rows = 0);

}  // namespace sluice::ops
