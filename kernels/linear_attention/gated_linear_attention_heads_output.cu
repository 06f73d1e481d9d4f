// o of heads that decay as a whole, and on how many segments their walks run.
#include <algorithm>

#include "kernels/linear_attention/gated_linear_attention_heads_walk.cuh"

namespace sluice::kernels::gla {
namespace {

template <int COLUMNS, HeadMode MODE>
__global__ void __launch_bounds__(WALK_THREADS, 1)
    head_output(const __grid_constant__ Chunked p, const __grid_constant__ HeadWalk w) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  walk_head<HeadShape<COLUMNS, MODE, false>>(p, w, blockIdx.x);
#endif
}

template <int COLUMNS, HeadMode MODE>
void launch_output(const Chunked& chunked, const HeadWalk& w, Stream stream) {
  constexpr int kBytes = HeadShape<COLUMNS, MODE, false>::BYTES;
  static const bool allowed = (allow_walk_bytes(head_output<COLUMNS, MODE>, kBytes), true);
  static_cast<void>(allowed);
  launch_walk_blocks(head_output<COLUMNS, MODE>, w.slots * chunked.heads * ((w.rows + VALUES - 1) / VALUES),
                     1, kBytes, stream, chunked, w);
}
template <int COLUMNS>
void walk_output(const Chunked& chunked, const HeadWalk& w, Stream stream) {
  if (w.slots > chunked.sequences && !w.leads) launch_output<COLUMNS, HeadMode::kUpdate>(chunked, w, stream);
  launch_output<COLUMNS, HeadMode::kOutput>(chunked, w, stream);
}

constexpr int64_t kMultiprocessors = 132;  // a constant: segments, and so the sums, depend on shapes alone
constexpr int64_t kLeastSegment = 8;       // chunks

// Blocks of one launch that take equally long, in the order in which they start.
struct Blocks {
  int64_t count;
  double time;
};
double time_of(const Blocks& first, const Blocks& second) {
  const int64_t last = first.count % kMultiprocessors;  // of the first in their last round
  double time = static_cast<double>(first.count / kMultiprocessors) * first.time;
  int64_t left = second.count;
  if (last > 0) {
    time += first.time;
    left -= (kMultiprocessors - last) * static_cast<int64_t>(first.time / second.time);
  }
  if (left > 0) time += static_cast<double>((left + kMultiprocessors - 1) / kMultiprocessors) * second.time;
  return time;
}

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

HeadSegmentation head_segmentation_of(int64_t chunks, int64_t sequences, int64_t longest, int64_t heads,
                                      int64_t key_size, int64_t value_size, bool backward) {
  HeadSegmentation s;
  s.chunks = chunks + 1,
  s.slots = sequences;  // more than any: an empty last sequence, too, begins in segment 0
  if (chunks == 0) return s;
  const auto tiles_of = [](int64_t rows) { return (rows + VALUES - 1) / VALUES; };
  const int64_t value_units = heads * tiles_of(value_size);
  const int64_t gradient_units = heads * tiles_of(key_size) * column_parts(value_size);
  // Rough times: a chunk takes 2 and 1 for each 64 columns, half of that where it only updates; a segment
  // before one's own 1 for each 128 columns, a launch 6.
  const auto chunk_time = [](int64_t columns) { return 2.0 + static_cast<double>(columns) / 64; };
  const auto fold_time = [](int64_t columns) { return static_cast<double>(columns) / 128; };
  const int64_t keys = padded_columns(key_size), values = std::min<int64_t>(padded_values(value_size), 256);
  // Without a word about it, sequences are of one length.
  const int64_t length = longest > 0 ? longest : (chunks + sequences - 1) / sequences;
  double least = 0.0;
  for (int64_t count = 1; count == 1 || (length + count - 1) / count >= kLeastSegment; ++count) {
    const int64_t segment = (length + count - 1) / count;
    const int64_t segments = std::min(sequences * count, chunks / segment + sequences);
    const auto blocks_of = [&](int64_t units, int64_t columns, bool update) {
      const double time = static_cast<double>(segment) * chunk_time(columns);
      const int64_t before = count - 1;
      return update ? Blocks{std::min(sequences * before, chunks / segment) * units, time / 2}
                    : Blocks{segments * units, time + static_cast<double>(before) * fold_time(columns)};
    };
    const auto launch_time = [&](bool update) {
      return time_of(blocks_of(backward ? 2 * gradient_units : 0, values, update),
                     blocks_of(value_units, keys, update));
    };
    const double time = launch_time(false) + (count > 1 ? launch_time(true) + 6 : 0.0);
    if (count > 1 && time >= least) continue;
    least = time;
    if (count > 1) s.chunks = segment, s.slots = chunks / segment + sequences;
  }
  // In one launch: a block also updates through all that lies before its segment, so that segments of one
  // length end together where the last is half as long. Lengths must be known: it costs what the longest
  // sequence has.
  const double time = chunk_time(keys);
  for (int64_t count = 2; !backward && longest > 0 && sequences * count * value_units <= kMultiprocessors;
       ++count) {
    const int64_t segment = 2 * longest / (2 * count - 1), before = (count - 1) * segment;
    if (segment < kLeastSegment) break;
    const double whole = static_cast<double>(segment) * (1 + 0.5 * static_cast<double>(count - 2));
    const double last = static_cast<double>(longest - before) + 0.5 * static_cast<double>(before);
    if (std::max(whole, last) * time >= least) continue;
    least = std::max(whole, last) * time;
    s.chunks = segment, s.slots = sequences * count, s.leads = true;
  }
  if (s.slots == sequences || s.leads) return s;
  s.value_states = s.slots * value_units * VALUES * padded_columns(key_size);
  s.gradient_states = s.slots * heads * tiles_of(key_size) * VALUES * padded_values(value_size);
  s.decays = s.slots * heads;
  return s;
}

}  // namespace sluice::kernels::gla
