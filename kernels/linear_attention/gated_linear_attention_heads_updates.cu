// The first launch over segments for the walks of gated_linear_attention_heads_backward.cu.
#include "kernels/linear_attention/gated_linear_attention_heads_backward.cuh"

namespace sluice::kernels::gla {
namespace {

template <int COLUMNS, bool PARTS>
__global__ void __launch_bounds__(WALK_THREADS, 1) head_updates(const __grid_constant__ HeadLaunch launch) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned block = blockIdx.x, blocks = launch.blocks;
  if (block < 2 * blocks) {
    const HeadWalk& walk = block < blocks ? launch.walks.keys : launch.walks.queries;
    walk_head<HeadShape<COLUMNS, HeadMode::kUpdate, PARTS>>(launch.chunked, walk, block % blocks);
  } else if (block - 2 * blocks < launch.value_blocks) {
    walk_values<HeadMode::kUpdate>(launch, block - 2 * blocks);
  }
#endif
}

template <int COLUMNS, bool PARTS>
void launch_updates(const HeadLaunch& launch, Stream stream) {
  constexpr int kBytes =
      std::max(HeadShape<COLUMNS, HeadMode::kUpdate, PARTS>::BYTES, value_walk_bytes<HeadMode::kUpdate>());
  static const bool allowed = (allow_walk_bytes(head_updates<COLUMNS, PARTS>, kBytes), true);
  static_cast<void>(allowed);
  launch_walk_blocks(head_updates<COLUMNS, PARTS>,
                     2 * static_cast<int64_t>(launch.blocks) + launch.value_blocks, PARTS ? 2 : 1, kBytes,
                     stream, launch);
}

}  // namespace

void launch_head_updates(const HeadLaunch& launch, Stream stream) {
  if (launch.walks.values.slots == launch.chunked.sequences) return;
  with_columns(launch, [&](auto columns, auto parts) {
    launch_updates<decltype(columns)::value, decltype(parts)::value>(launch, stream);
  });
}

}  // namespace sluice::kernels::gla
