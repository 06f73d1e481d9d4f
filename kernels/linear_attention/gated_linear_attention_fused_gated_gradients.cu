// The walks of gated_linear_attention_fused_gradients.cu with what the gradient of whole heads' gates wants.
#include "kernels/linear_attention/gated_linear_attention_fused_gradients.cuh"

namespace sluice::kernels::gla {

void launch_gated_gradients(const GradientLaunch& launch, Stream stream) {
  launch_gradients_for_values<true>(launch, stream);
}

}  // namespace sluice::kernels::gla
