// The walks of backward of heads that decay as a whole, all in one launch.
#pragma once

#include <algorithm>

#include "kernels/linear_attention/gated_linear_attention_heads_walk.cuh"

namespace sluice::kernels::gla {

struct HeadLaunch {
  Chunked chunked;
  HeadWalks walks;
  // Blocks of each of dq's and dk's walks, and of dv's: first dk's, then dq's, then dv's, which are shorter.
  unsigned blocks, value_blocks;
};

template <HeadMode MODE>
__device__ __forceinline__ void walk_values(const HeadLaunch& launch, unsigned block) {
  const HeadWalk& w = launch.walks.values;
  if (w.columns <= 64) {
    walk_head<HeadShape<64, MODE, false>>(launch.chunked, w, block);
  } else if (w.columns <= 128) {
    walk_head<HeadShape<128, MODE, false>>(launch.chunked, w, block);
  } else {
    walk_head<HeadShape<256, MODE, false>>(launch.chunked, w, block);
  }
}
// Bytes of the largest of these.
template <HeadMode MODE>
constexpr int value_walk_bytes() {
  return std::max({HeadShape<64, MODE, false>::BYTES, HeadShape<128, MODE, false>::BYTES,
                   HeadShape<256, MODE, false>::BYTES});
}

template <int COLUMNS, bool PARTS>
__global__ void __launch_bounds__(WALK_THREADS, 1) head_gradients(const __grid_constant__ HeadLaunch launch) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned block = blockIdx.x, blocks = launch.blocks;
  if (block < blocks) {
    walk_head<HeadShape<COLUMNS, HeadMode::kReverse, PARTS>>(launch.chunked, launch.walks.keys, block);
  } else if (block < 2 * blocks) {
    walk_head<HeadShape<COLUMNS, HeadMode::kForward, PARTS>>(launch.chunked, launch.walks.queries,
                                                             block - blocks);
  } else if (block - 2 * blocks < launch.value_blocks) {
    walk_values<HeadMode::kReverse>(launch, block - 2 * blocks);
  }
#endif
}

template <int COLUMNS, bool PARTS>
void launch_head_gradients(const HeadLaunch& launch, Stream stream) {
  constexpr int kBytes = std::max({HeadShape<COLUMNS, HeadMode::kForward, PARTS>::BYTES,
                                   HeadShape<COLUMNS, HeadMode::kReverse, PARTS>::BYTES,
                                   value_walk_bytes<HeadMode::kReverse>()});
  const auto kernel = head_gradients<COLUMNS, PARTS>;
  static const bool allowed = (allow_walk_bytes(head_gradients<COLUMNS, PARTS>, kBytes), true);
  static_cast<void>(allowed);
  launch_walk_blocks(kernel, 2 * static_cast<int64_t>(launch.blocks) + launch.value_blocks, PARTS ? 2 : 1,
                     kBytes, stream, launch);
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

// What each segment's own tokens leave, where sequences are cut: in a file of its own.
void launch_head_updates(const HeadLaunch& launch, Stream stream);

}  // namespace sluice::kernels::gla
