// The walks of backward of heads that decay as a whole: dq's, dk's and dv's.
#include "kernels/linear_attention/gated_linear_attention_heads_backward.cuh"

namespace sluice::kernels::gla {

void walk_heads_backward(const Chunked& chunked, const HeadWalks& walks, Stream stream) {
  if (chunked.sequences == 0) return;
  HeadLaunch launch = {chunked, walks, 0, 0};
  const auto blocks_of = [&](int64_t rows, int parts) {
    return static_cast<unsigned>(walks.values.slots * chunked.heads * ((rows + VALUES - 1) / VALUES) * parts);
  };
  if (walks.gradients_wanted) {
    launch.blocks = blocks_of(walks.queries.rows, column_parts(walks.queries.columns));
  }
  if (walks.values_wanted) launch.value_blocks = blocks_of(walks.values.rows, 1);
  launch_head_updates(launch, stream);
  with_columns(launch, [&](auto columns, auto parts) {
    launch_head_gradients<decltype(columns)::value, decltype(parts)::value>(launch, stream);
  });
}

}  // namespace sluice::kernels::gla
