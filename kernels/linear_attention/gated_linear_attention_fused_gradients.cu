// dq and dk of heads that decay as a whole: the fused walk with keys as rows of the state, both walks in one
// launch.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk_block.cuh"

namespace sluice::kernels::gla {
namespace {

// What each segment's own tokens leave.
template <int COLUMNS, bool PARTS>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    fused_gradient_updates(const __grid_constant__ Chunked p, const __grid_constant__ FusedWalks all) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned walk = blockIdx.x / all.blocks;
  walk_block<WalkShape<COLUMNS, WalkMode::kUpdate, PARTS>>(p, all.walks[walk], blockIdx.x % all.blocks);
#endif
}

// The blocks from first_block on: those of dq, then those of dk.
template <int COLUMNS, bool PARTS, bool GATED>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    fused_gradients(const __grid_constant__ Chunked p, const __grid_constant__ FusedWalks all,
                    const unsigned first_block) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned block = blockIdx.x + first_block;
  if (block < all.blocks) {
    walk_block<WalkShape<COLUMNS, WalkMode::kQueries, PARTS, GATED>>(p, all.walks[0], block);
  } else {
    walk_block<WalkShape<COLUMNS, WalkMode::kKeys, PARTS, GATED>>(p, all.walks[1], block - all.blocks);
  }
#endif
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int cluster_blocks, int bytes, Stream stream,
            const Arguments&... arguments) {
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(cluster_blocks), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(WALK_THREADS), config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = stream, config.attrs = &cluster, config.numAttrs = 1;
  SLUICE_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
  SLUICE_CHECK_LAUNCH("gated_linear_attention fused gradients");
}

template <int COLUMNS, bool PARTS, bool GATED>
void launch_gradients(const Chunked& chunked, const FusedWalks& all, Stream stream) {
  using Shape = WalkShape<COLUMNS, WalkMode::kQueries, PARTS, GATED>;
  using Update = WalkShape<COLUMNS, WalkMode::kUpdate, PARTS>;
  static_assert(Shape::BYTES == WalkShape<COLUMNS, WalkMode::kKeys, PARTS, GATED>::BYTES);
  const auto kernel = fused_gradients<COLUMNS, PARTS, GATED>;
  const auto update = fused_gradient_updates<COLUMNS, PARTS>;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::BYTES);
  static const cudaError_t update_allowed =
      cudaFuncSetAttribute(update, cudaFuncAttributeMaxDynamicSharedMemorySize, Update::BYTES);
  SLUICE_CUDA_CHECK(allowed);
  SLUICE_CUDA_CHECK(update_allowed);
  const int64_t blocks = all.blocks, tiles = (chunked.value_size + VALUES - 1) / VALUES;
  const int cluster_blocks = PARTS || tiles % 2 == 0 ? 2 : 1;
  if (all.walks[0].slots > chunked.sequences) {
    launch(update, 2 * blocks, cluster_blocks, Update::BYTES, stream, chunked, all);
  }
  if (GATED) {  // the second reads what the first leaves
    launch(kernel, blocks, cluster_blocks, Shape::BYTES, stream, chunked, all, 0u);
    launch(kernel, blocks, cluster_blocks, Shape::BYTES, stream, chunked, all, all.blocks);
  } else {
    launch(kernel, 2 * blocks, cluster_blocks, Shape::BYTES, stream, chunked, all, 0u);
  }
}

template <bool GATED>
void launch_for_values(const Chunked& chunked, const FusedWalks& all, Stream stream) {
  switch (value_panels(chunked.key_size)) {
    case 2:
      return launch_gradients<128, false, GATED>(chunked, all, stream);
    case 4:
      return launch_gradients<256, false, GATED>(chunked, all, stream);
    default:
      return launch_gradients<256, true, GATED>(chunked, all, stream);
  }
}

}  // namespace

void walk_fused_gradients(const Chunked& chunked, const FusedWalk& queries, const FusedWalk& keys, bool gated,
                          Stream stream) {
  if (chunked.sequences == 0) return;
  FusedWalks all = {{queries, keys}, 0};
  const int64_t tiles = (chunked.value_size + VALUES - 1) / VALUES;
  all.blocks =
      static_cast<unsigned>(queries.slots * chunked.kv_heads * tiles * value_parts(chunked.key_size));
  if (gated) {
    launch_for_values<true>(chunked, all, stream);
  } else {
    launch_for_values<false>(chunked, all, stream);
  }
}

}  // namespace sluice::kernels::gla
