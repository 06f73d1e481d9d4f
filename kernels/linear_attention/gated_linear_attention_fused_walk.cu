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

// Whether so many blocks fill three quarters of a GPU.
bool fill(int64_t blocks) { return blocks * 4 >= kMultiprocessors * 3; }
// Chunks of a segment where each chunk has `units` blocks, or 0: sequences as they are.
int64_t segment_chunks(int64_t chunks, int64_t sequences, int64_t units) {
  if (fill(sequences * units)) return 0;
  const int64_t segment =
      std::max<int64_t>((chunks * units + kMultiprocessors - 5) / (kMultiprocessors - 4), kLeastSegment);
  return segment * sequences < chunks ? segment : 0;
}
int64_t tiles_of(int64_t rows) { return (rows + VALUES - 1) / VALUES; }

}  // namespace

Segmentation segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                             int64_t value_size) {
  Segmentation s;
  s.chunks = chunks + 1,
  s.slots = sequences;  // more than any: an empty last sequence, too, begins in segment 0
  const int64_t units = heads * tiles_of(value_size);
  const int64_t segment = segment_chunks(chunks, sequences, units);
  if (segment == 0) return s;
  s.chunks = segment, s.slots = chunks / segment + sequences;
  s.state_elements = s.slots * units * VALUES * padded_keys(key_size);
  s.decay_elements = s.slots * heads * padded_keys(key_size);
  return s;
}

GradientSegmentation gradient_segmentation_of(int64_t chunks, int64_t sequences, int64_t heads,
                                              int64_t key_size, int64_t value_size, bool gated) {
  GradientSegmentation s;
  s.chunks = chunks + 1, s.slots = sequences;
  const int64_t parts = value_parts(value_size), columns = value_panels(value_size) / parts * PANEL;
  const int64_t value_units = heads * tiles_of(value_size), units = heads * parts * tiles_of(key_size);
  // Gates make dk wait for dq.
  s.together = !fill(sequences * value_units) || !fill(sequences * units * (gated ? 1 : 2));
  if (!s.together) return s;
  const int64_t segment = segment_chunks(chunks, sequences, gated ? units : value_units + 2 * units);
  if (segment == 0) return s;
  s.chunks = segment, s.slots = chunks / segment + sequences;
  s.value_states = s.slots * value_units * VALUES * padded_keys(key_size);
  s.value_decays = s.slots * heads * padded_keys(key_size);
  s.gradient_states = 2 * s.slots * units * VALUES * columns;
  s.gradient_decays = 2 * s.slots * heads * parts * columns;
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
