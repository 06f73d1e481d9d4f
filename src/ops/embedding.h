// Token embedding.
#pragma once

#include "autograd/variable.h"

namespace sluice::ops {

// tokens i32 [N], weight [V, C] -> [N, C], y_n = weight[tokens_n]. The weight's gradient is summed in order
// of position. Error(kData) names the first position whose token is not in [0, V); on a GPU such a token's
// row is NaN instead.
Variable embedding(const Tensor& tokens, const Variable& weight);

}  // namespace sluice::ops
