// dq and dk of heads that decay as a whole: the fused walk with keys as rows of the state, and dv's beside
// them.
#include "kernels/linear_attention/gated_linear_attention_fused_gradients.cuh"

namespace sluice::kernels::gla {

void launch_plain_gradients(const GradientLaunch& launch, Stream stream) {
  launch_gradients_for_values<false>(launch, stream);
}

void walk_fused_gradients(const Chunked& chunked, const Chunked& swapped, const GradientWalks& walks,
                          Stream stream) {
  if (chunked.sequences == 0) return;
  GradientLaunch launch = {chunked, swapped, walks, 0, 0};
  const auto blocks_of = [&](int64_t rows) {
    return static_cast<unsigned>(walks.queries.slots * chunked.heads * ((rows + VALUES - 1) / VALUES));
  };
  launch.blocks = blocks_of(chunked.key_size) * static_cast<unsigned>(value_parts(chunked.value_size));
  launch.value_blocks = walks.together ? blocks_of(chunked.value_size) : 0;
  launch_gradient_updates(launch, stream);
  if (walks.gated) {
    launch_gated_gradients(launch, stream);
  } else {
    launch_plain_gradients(launch, stream);
  }
}

}  // namespace sluice::kernels::gla
