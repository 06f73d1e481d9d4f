// The walks of backward of heads that decay as a whole, in one launch or two.
#pragma once

#include <algorithm>

#include "kernels/linear_attention/gated_linear_attention_heads_walk.cuh"

namespace sluice::kernels::gla {

struct HeadLaunch {
  Chunked chunked;
  HeadWalks walks;
  // Blocks of each of dq's and dk's walks, and of dv's: first dk's, then dq's, then dv's.
  unsigned blocks, value_blocks;
};

template <HeadMode MODE>
__device__ __forceinline__ void walk_values(const HeadLaunch& launch, unsigned block) {
  const HeadWalk& w = launch.walks.values;
  if (w.columns <= 64) {
    walk_head<HeadShape<64, MODE, false, false>>(launch.chunked, w, block);
  } else if (w.columns <= 128) {
    walk_head<HeadShape<128, MODE, false, false>>(launch.chunked, w, block);
  } else {
    walk_head<HeadShape<256, MODE, false, false>>(launch.chunked, w, block);
  }
}
// Bytes of the largest of these.
template <HeadMode MODE>
constexpr int value_walk_bytes() {
  return std::max({HeadShape<64, MODE, false, false>::BYTES, HeadShape<128, MODE, false, false>::BYTES,
                   HeadShape<256, MODE, false, false>::BYTES});
}

// The blocks from first_block on.
template <int COLUMNS, bool PARTS, bool GATED>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    head_gradients(const __grid_constant__ HeadLaunch launch, const unsigned first_block) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned block = blockIdx.x + first_block, blocks = launch.blocks;
  if (block < blocks) {
    walk_head<HeadShape<COLUMNS, HeadMode::kReverse, PARTS, GATED>>(launch.chunked, launch.walks.keys, block);
  } else if (block < 2 * blocks) {
    walk_head<HeadShape<COLUMNS, HeadMode::kForward, PARTS, GATED>>(launch.chunked, launch.walks.queries,
                                                                    block - blocks);
  } else if (block - 2 * blocks < launch.value_blocks) {
    walk_values<HeadMode::kReverse>(launch, block - 2 * blocks);
  }
#endif
}

template <int COLUMNS, bool PARTS, bool GATED>
void launch_head_gradients(const HeadLaunch& launch, Stream stream) {
  constexpr int kBytes = std::max({HeadShape<COLUMNS, HeadMode::kForward, PARTS, GATED>::BYTES,
                                   HeadShape<COLUMNS, HeadMode::kReverse, PARTS, GATED>::BYTES,
                                   value_walk_bytes<HeadMode::kReverse>()});
  const auto kernel = head_gradients<COLUMNS, PARTS, GATED>;
  static const bool allowed = (allow_walk_bytes(head_gradients<COLUMNS, PARTS, GATED>, kBytes), true);
  static_cast<void>(allowed);
  constexpr int CLUSTER = PARTS ? 2 : 1;
  const int64_t blocks = launch.blocks, all = 2 * blocks + launch.value_blocks;
  if constexpr (GATED) {  // dk's walk reads what dq's leaves
    launch_walk_blocks(kernel, all - blocks, CLUSTER, kBytes, stream, launch, launch.blocks);
    launch_walk_blocks(kernel, blocks, CLUSTER, kBytes, stream, launch, 0u);
  } else {
    launch_walk_blocks(kernel, all, CLUSTER, kBytes, stream, launch, 0u);
  }
}

// By the columns of dq's and dk's walks.
template <class Launch>
void with_columns(const HeadLaunch& launch, const Launch& with) {
  switch (padded_values(launch.walks.queries.columns)) {
    case 128:
      return with(std::integral_constant<int, 128>(), std::false_type());
    case 256:
      return with(std::integral_constant<int, 256>(), std::false_type());
    default:
      return with(std::integral_constant<int, 256>(), std::true_type());
  }
}

// In files of their own. The first: what each segment's own tokens leave, where sequences are cut.
void launch_head_updates(const HeadLaunch& launch, Stream stream);
void launch_plain_head_gradients(const HeadLaunch& launch, Stream stream);
void launch_gated_head_gradients(const HeadLaunch& launch, Stream stream);

}  // namespace sluice::kernels::gla
