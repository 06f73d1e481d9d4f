// The walks of backward of heads that decay as a whole, in one launch or two.
#pragma once

#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk_block.cuh"

namespace sluice::kernels::gla {

struct GradientLaunch {
  Chunked chunked, swapped;
  GradientWalks walks;
  // Blocks of each of dq's and dk's walks, and of dv's: first dk's, then dq's, then dv's.
  unsigned blocks, value_blocks;
};

template <WalkMode MODE>
__device__ __forceinline__ void walk_values_block(const GradientLaunch& launch, unsigned block) {
  const Chunked& p = launch.chunked;
  if (p.panels == 1) {
    walk_block<WalkShape<64, MODE, false, false, true>>(p, launch.walks.values, block);
  } else if (p.panels == 2) {
    walk_block<WalkShape<128, MODE, false, false, true>>(p, launch.walks.values, block);
  } else {
    walk_block<WalkShape<256, MODE, false, false, true>>(p, launch.walks.values, block);
  }
}

// The blocks from first_block on.
template <int COLUMNS, bool PARTS, bool GATED>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    fused_gradients(const __grid_constant__ GradientLaunch launch, const unsigned first_block) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned block = blockIdx.x + first_block, blocks = launch.blocks;
  if (block < blocks) {
    walk_block<WalkShape<COLUMNS, WalkMode::kKeys, PARTS, GATED, true>>(launch.swapped, launch.walks.keys,
                                                                        block);
  } else if (block < 2 * blocks) {
    walk_block<WalkShape<COLUMNS, WalkMode::kQueries, PARTS, GATED, true>>(
        launch.swapped, launch.walks.queries, block - blocks);
  } else if (block - 2 * blocks < launch.value_blocks) {
    walk_values_block<WalkMode::kValues>(launch, block - 2 * blocks);
  }
#endif
}

template <class... Parameters, class... Arguments>
void launch_blocks(void (*kernel)(Parameters...), int64_t blocks, int cluster_blocks, int bytes,
                   Stream stream, const Arguments&... arguments) {
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(cluster_blocks), 1, 1};
  cudaLaunchConfig_t config = {};
  // Whole clusters: a block more where they are odd.
  config.gridDim =
      dim3(static_cast<unsigned>((blocks + cluster_blocks - 1) / cluster_blocks * cluster_blocks));
  config.blockDim = dim3(WALK_THREADS), config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = stream, config.attrs = &cluster, config.numAttrs = 1;
  SLUICE_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
  SLUICE_CHECK_LAUNCH("gated_linear_attention fused gradients");
}

template <int COLUMNS, bool PARTS, bool GATED>
void launch_gradients(const GradientLaunch& launch, Stream stream) {
  // With dv's walk of the widest heads, which takes most of all.
  constexpr int kBytes = std::max({WalkShape<COLUMNS, WalkMode::kQueries, PARTS, GATED, true>::BYTES,
                                   WalkShape<COLUMNS, WalkMode::kKeys, PARTS, GATED, true>::BYTES,
                                   WalkShape<256, WalkMode::kValues, false, false, true>::BYTES,
                                   WalkShape<128, WalkMode::kValues, false, false, true>::BYTES,
                                   WalkShape<64, WalkMode::kValues, false, false, true>::BYTES});
  const auto kernel = fused_gradients<COLUMNS, PARTS, GATED>;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  SLUICE_CUDA_CHECK(allowed);
  constexpr int CLUSTER = PARTS ? 2 : 1;
  const int64_t blocks = launch.blocks, all = 2 * blocks + launch.value_blocks;
  if constexpr (GATED) {  // dk's walk reads what dq's leaves
    launch_blocks(kernel, all - blocks, CLUSTER, kBytes, stream, launch, launch.blocks);
    launch_blocks(kernel, blocks, CLUSTER, kBytes, stream, launch, 0u);
  } else {
    launch_blocks(kernel, all, CLUSTER, kBytes, stream, launch, 0u);
  }
}

template <bool GATED>
void launch_gradients_for_values(const GradientLaunch& launch, Stream stream) {
  switch (value_panels(launch.swapped.key_size)) {
    case 2:
      return launch_gradients<128, false, GATED>(launch, stream);
    case 4:
      return launch_gradients<256, false, GATED>(launch, stream);
    default:
      return launch_gradients<256, true, GATED>(launch, stream);
  }
}

// In files of their own. The first: what each segment's own tokens leave, where sequences are cut.
void launch_gradient_updates(const GradientLaunch& launch, Stream stream);
void launch_plain_gradients(const GradientLaunch& launch, Stream stream);
void launch_gated_gradients(const GradientLaunch& launch, Stream stream);

}  // namespace sluice::kernels::gla
