// o of heads that decay as a whole, and on how many segments their walks run.
#include <algorithm>

#include "kernels/linear_attention/gated_linear_attention_heads_walk.cuh"

namespace sluice::kernels::gla {
namespace {

template <int COLUMNS, HeadMode MODE>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    head_output(const __grid_constant__ Chunked p, const __grid_constant__ HeadWalk w) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  walk_head<HeadShape<COLUMNS, MODE, false, false>>(p, w, blockIdx.x);
#endif
}

template <int COLUMNS, HeadMode MODE>
void launch_output(const Chunked& chunked, const HeadWalk& w, Stream stream) {
  constexpr int kBytes = HeadShape<COLUMNS, MODE, false, false>::BYTES;
  static const bool allowed = (allow_walk_bytes(head_output<COLUMNS, MODE>, kBytes), true);
  static_cast<void>(allowed);
  launch_walk_blocks(head_output<COLUMNS, MODE>, w.slots * chunked.heads * ((w.rows + VALUES - 1) / VALUES),
                     1, kBytes, stream, chunked, w);
}
template <int COLUMNS>
void walk_output(const Chunked& chunked, const HeadWalk& w, Stream stream) {
  if (w.slots > chunked.sequences) launch_output<COLUMNS, HeadMode::kUpdate>(chunked, w, stream);
  launch_output<COLUMNS, HeadMode::kForward>(chunked, w, stream);
}

constexpr int kMultiprocessors = 132;  // a constant: the segments, and so the sums, depend on shapes alone
constexpr int kLeastSegment = 8;       // chunks

}  // namespace

void walk_heads(const Chunked& chunked, const HeadWalk& output, Stream stream) {
  if (chunked.sequences == 0) return;
  switch (padded_columns(output.columns)) {
    case 64:
      return walk_output<64>(chunked, output, stream);
    case 128:
      return walk_output<128>(chunked, output, stream);
    default:
      return walk_output<256>(chunked, output, stream);
  }
}

HeadSegmentation head_segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                                      int64_t value_size, bool backward, bool gated) {
  HeadSegmentation s;
  s.chunks = chunks + 1,
  s.slots = sequences;  // more than any: an empty last sequence, too, begins in segment 0
  const auto tiles_of = [](int64_t rows) { return (rows + VALUES - 1) / VALUES; };
  const int64_t value_units = heads * tiles_of(value_size);
  const int64_t gradient_units = heads * tiles_of(key_size) * column_parts(value_size);
  // In one launch; but gates make dk's walk wait for dq's.
  const int64_t units = !backward ? value_units : gated ? gradient_units : value_units + 2 * gradient_units;
  if (sequences * units * 4 >= kMultiprocessors * 3) return s;
  const int64_t segment =
      std::max<int64_t>((chunks * units + kMultiprocessors - 5) / (kMultiprocessors - 4), kLeastSegment);
  if (segment * sequences >= chunks) return s;
  s.chunks = segment, s.slots = chunks / segment + sequences;
  s.value_states = s.slots * value_units * VALUES * padded_columns(key_size);
  s.gradient_states = s.slots * heads * tiles_of(key_size) * VALUES * padded_values(value_size);
  s.decays = s.slots * heads;
  return s;
}

HeadGateElements head_gate_elements(int64_t chunks, int64_t heads, int64_t key_size, int64_t value_size) {
  const int64_t tiles = (key_size + VALUES - 1) / VALUES;
  return {chunks * heads * CHUNK * tiles * (VALUES / 16),
          chunks * heads * tiles * VALUES * padded_values(value_size),
          chunks * heads * column_parts(value_size) * tiles * (CONSUMERS / 32)};
}

}  // namespace sluice::kernels::gla
