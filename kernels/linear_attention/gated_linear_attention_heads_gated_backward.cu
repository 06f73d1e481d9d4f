// The same walks with what the gradient of the gates wants.
#include "kernels/linear_attention/gated_linear_attention_heads_backward.cuh"

namespace sluice::kernels::gla {

void launch_gated_head_gradients(const HeadLaunch& launch, Stream stream) {
  with_columns(launch, [&](auto columns, auto parts) {
    launch_head_gradients<decltype(columns)::value, decltype(parts)::value, true>(launch, stream);
  });
}

}  // namespace sluice::kernels::gla
