// Softmax attention on the instructions of sm_90a: wgmma and bulk copies of tiles. Rows on 16-byte
// boundaries, head_dim 64 or 128.
#pragma once

#include "kernels/attention/softmax_attention.h"

namespace sluice::kernels {

// Passes over the scores for all gradients, where there is a choice.
enum class GradientPasses { kByShape, kOne, kTwo };
// Tests run a call every way.
void allow_hopper_attention(bool allowed, GradientPasses passes = GradientPasses::kByShape);

namespace cuda {

// Whether this build has the kernels, the current device runs them, and tests have not turned them off.
bool has_hopper_attention();
GradientPasses gradient_passes();

// Blocks draw their work from counters in the workspace: HOPPER_TICKETS of them, zero before the launch.
inline constexpr int64_t HOPPER_TICKETS = 2, HOPPER_WORKSPACE = HOPPER_TICKETS * sizeof(unsigned);

void attend_on_hopper(const SoftmaxAttentionForward<bfloat16>& params);
// These need delta.
void query_gradient_on_hopper(const SoftmaxAttentionBackward<bfloat16>& params);
void key_gradients_on_hopper(const SoftmaxAttentionBackward<bfloat16>& params);
// dq, dk and dv in one pass, where the first is not 0: the shape gains by it, and needs not too many bytes.
int64_t gradients_workspace_on_hopper(const SoftmaxAttentionBackward<bfloat16>& params);
void gradients_on_hopper(const SoftmaxAttentionBackward<bfloat16>& params);

}  // namespace cuda
}  // namespace sluice::kernels
