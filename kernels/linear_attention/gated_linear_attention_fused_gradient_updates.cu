// The first launch over segments for the walks of gated_linear_attention_fused_gradients.cu.
#include "kernels/linear_attention/gated_linear_attention_fused_gradients.cuh"

namespace sluice::kernels::gla {
namespace {

// What each segment's own tokens leave.
template <int COLUMNS, bool PARTS>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    fused_gradient_updates(const __grid_constant__ GradientLaunch launch) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const unsigned block = blockIdx.x, blocks = launch.blocks;
  if (block < 2 * blocks) {
    const FusedWalk& walk = block < blocks ? launch.walks.keys : launch.walks.queries;
    walk_block<WalkShape<COLUMNS, WalkMode::kUpdate, PARTS, false, true>>(launch.swapped, walk,
                                                                          block % blocks);
  } else if (block - 2 * blocks < launch.value_blocks) {
    walk_values_block<WalkMode::kUpdate>(launch, block - 2 * blocks);
  }
#endif
}

template <int COLUMNS, bool PARTS>
void launch_updates(const GradientLaunch& launch, Stream stream) {
  constexpr int kBytes = std::max({WalkShape<COLUMNS, WalkMode::kUpdate, PARTS, false, true>::BYTES,
                                   WalkShape<256, WalkMode::kUpdate, false, false, true>::BYTES,
                                   WalkShape<128, WalkMode::kUpdate, false, false, true>::BYTES,
                                   WalkShape<64, WalkMode::kUpdate, false, false, true>::BYTES});
  const auto kernel = fused_gradient_updates<COLUMNS, PARTS>;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  SLUICE_CUDA_CHECK(allowed);
  launch_blocks(kernel, 2 * static_cast<int64_t>(launch.blocks) + launch.value_blocks, PARTS ? 2 : 1, kBytes,
                stream, launch);
}

}  // namespace

void launch_gradient_updates(const GradientLaunch& launch, Stream stream) {
  if (launch.walks.queries.slots == launch.swapped.sequences) return;
  switch (value_panels(launch.swapped.key_size)) {
    case 2:
      return launch_updates<128, false>(launch, stream);
    case 4:
      return launch_updates<256, false>(launch, stream);
    default:
      return launch_updates<256, true>(launch, stream);
  }
}

}  // namespace sluice::kernels::gla
