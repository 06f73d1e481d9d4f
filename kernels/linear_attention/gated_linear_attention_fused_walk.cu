// Which of the fused walk's kernels run, and on how many segments.
#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk_block.cuh"

namespace sluice::kernels::gla {
namespace {

constexpr int kMultiprocessors = 132;  // a constant: the segments, and so the sums, depend on shapes alone
constexpr int kLeastSegment = 8;       // chunks

template <int KEYS, WalkMode MODE>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    fused_walk(const __grid_constant__ Chunked p, const __grid_constant__ FusedWalk w) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  walk_block<WalkShape<KEYS, MODE>>(p, w, blockIdx.x);
#endif
}

template <int KEYS, WalkMode MODE>
void launch_mode(const Chunked& chunked, const FusedWalk& walk, Stream stream) {
  using Shape = WalkShape<KEYS, MODE>;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(fused_walk<KEYS, MODE>, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::BYTES);
  SLUICE_CUDA_CHECK(allowed);
  const int64_t tiles = (chunked.value_size + VALUES - 1) / VALUES;
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {tiles % 2 == 0 ? 2u : 1u, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(walk.slots * chunked.kv_heads * tiles));
  config.blockDim = dim3(WALK_THREADS), config.dynamicSmemBytes = Shape::BYTES, config.stream = stream;
  config.attrs = &cluster, config.numAttrs = 1;
  SLUICE_CUDA_CHECK(cudaLaunchKernelEx(&config, fused_walk<KEYS, MODE>, chunked, walk));
  SLUICE_CHECK_LAUNCH("gated_linear_attention fused walk");
}

template <int KEYS>
void launch_walk(const Chunked& chunked, const FusedWalk& walk, Stream stream) {
  if (walk.slots > chunked.sequences) launch_mode<KEYS, WalkMode::kUpdate>(chunked, walk, stream);
  if (walk.reverse) {
    launch_mode<KEYS, WalkMode::kValues>(chunked, walk, stream);
  } else if (walk.to.data != nullptr) {
    launch_mode<KEYS, WalkMode::kOutput>(chunked, walk, stream);
  } else {
    launch_mode<KEYS, WalkMode::kStates>(chunked, walk, stream);
  }
}

int64_t padded_keys(int64_t key_size) { return fused_panels(key_size) * int64_t{PANEL}; }

}  // namespace

bool has_fused_walk() {
#ifdef SLUICE_SM90A
  static const bool has = [] {
    int device = 0, major = 0, minor = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
           major == 9 && minor == 0;
  }();
  return has;
#else
  return false;
#endif
}

namespace {

// heads: all that walk a sequence side by side, COLUMNS of X each.
Segmentation segments_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t columns, int64_t rows) {
  Segmentation s;
  s.chunks = chunks + 1,
  s.slots = sequences;  // more than any: an empty last sequence, too, begins in segment 0
  const int64_t tiles = (rows + VALUES - 1) / VALUES, units = heads * tiles;
  if (sequences * units * 4 >= kMultiprocessors * 3) return s;
  const int64_t segment =
      std::max<int64_t>((chunks * units + kMultiprocessors - 5) / (kMultiprocessors - 4), kLeastSegment);
  if (segment * sequences >= chunks) return s;
  s.chunks = segment, s.slots = chunks / segment + sequences;
  s.state_elements = s.slots * units * VALUES * columns;
  s.decay_elements = s.slots * heads * columns;
  return s;
}

}  // namespace

Segmentation segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                             int64_t value_size) {
  return segments_of(chunks, sequences, heads, padded_keys(key_size), value_size);
}

Segmentation gradient_segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                                      int64_t value_size, bool gated) {
  const int64_t parts = value_parts(value_size);
  Segmentation s = segments_of(chunks, sequences, heads * parts * (gated ? 1 : 2),
                               value_panels(value_size) / parts * PANEL, key_size);
  if (gated) s.state_elements *= 2, s.decay_elements *= 2;
  return s;
}

HeadGateElements head_gate_elements(int64_t chunks, int64_t heads, int64_t key_size, int64_t value_size) {
  const int64_t tiles = (key_size + VALUES - 1) / VALUES, parts = value_parts(value_size);
  return {chunks * heads * CHUNK * tiles * (VALUES / 16),
          chunks * heads * tiles * VALUES * value_panels(value_size) * PANEL,
          chunks * heads * parts * tiles * (CONSUMERS / 32)};
}

void walk_fused(const Chunked& chunked, const FusedWalk& walk, Stream stream) {
  if (chunked.sequences == 0) return;
  const int64_t keys = padded_keys(chunked.key_size);
  if (keys == 64) {
    launch_walk<64>(chunked, walk, stream);
  } else if (keys == 128) {
    launch_walk<128>(chunked, walk, stream);
  } else {
    launch_walk<256>(chunked, walk, stream);
  }
}

}  // namespace sluice::kernels::gla
