// Decoding: the keys of few queries are shared out among blocks, whose results are joined afterwards.
#pragma once

#include "kernels/attention/attention_place.cuh"

namespace sluice::kernels {

// Each split has `keys` keys, counted from the first key that its tile of rows sees. With more than one
// split, partial results: float sums [splits, slots, D], normalised within their split, and base-2 logarithms
// of the sums of exponentials [splits, slots], -infinity where a split has no key of that row.
struct AttentionSplits {
  int splits = 1;
  int keys = 0;
  int64_t slots = 0;
  float* sums = nullptr;
  float* logarithms = nullptr;

  AttentionSplits() = default;
  // For `blocks` blocks before splitting: enough to fill a GPU, none with less work than it costs to join.
  AttentionSplits(const AttentionShape& s, int64_t blocks) : slots(s.sequences * s.longest_q * s.heads) {
    constexpr int64_t kBlocks = 528, kLeastKeys = 256, kMostSplits = 256, kGranule = 64;
    const int64_t seen = s.window > 0 ? std::min(s.longest_k, s.window + s.longest_q) : s.longest_k;
    const int64_t wanted = std::min(
        {divide_up(kBlocks, std::max<int64_t>(blocks, 1)), divide_up(seen, kLeastKeys), kMostSplits});
    keys = static_cast<int>(
        divide_up(divide_up(std::max<int64_t>(seen, 1), std::max<int64_t>(wanted, 1)), kGranule) * kGranule);
    splits = static_cast<int>(std::max<int64_t>(divide_up(seen, keys), 1));
  }

  int64_t bytes(const AttentionShape& s) const {
    return splits > 1 ? splits * slots * (s.head_dim + 1) * static_cast<int64_t>(sizeof(float)) : 0;
  }
  void place_in(void* workspace, const AttentionShape& s) {
    sums = static_cast<float*>(workspace);
    logarithms = sums + splits * slots * s.head_dim;
  }

  __device__ __forceinline__ static int64_t slot(const AttentionShape& s, int64_t sequence, int64_t query,
                                                 int64_t head) {
    return (sequence * s.longest_q + query) * s.heads + head;
  }
};

// One for each path. In float, long stretches of queries are not split.
inline AttentionSplits splits_on_tensor_cores(const AttentionShape& s) {
  return AttentionSplits(s, s.sequences * s.kv_heads * divide_up(s.longest_q * (s.heads / s.kv_heads), 16));
}
inline AttentionSplits splits_in_float(const AttentionShape& s) {
  constexpr int64_t kRows = 64;
  const int64_t blocks = s.sequences * s.heads * divide_up(s.longest_q, kRows);
  return s.longest_q <= kRows ? AttentionSplits(s, blocks) : AttentionSplits();
}

// Joins partial results into o and lse.
template <class T>
void combine_splits(const SoftmaxAttentionForward<T>& params, const AttentionSplits& splits);

}  // namespace sluice::kernels
