// What all CUDA attention kernels share: which rows belong together, which keys a query sees, and in which
// order blocks take their tiles.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/error.h"
#include "kernels/attention/softmax_attention.h"

namespace sluice::kernels {

inline constexpr float kLog2E = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.69314718055994530942f;
// Where a running maximum starts: finite, so that a row whose keys are all still to come keeps exp2 of
// (-infinity minus maximum) = 0.
inline constexpr float kLowest = -1e30f;

__device__ __forceinline__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One sequence's place in the packed batch. Positions count from the sequence's first key.
struct AttentionPlace {
  __device__ __forceinline__ AttentionPlace(const AttentionShape& shape, int64_t sequence)
      : q_first(shape.q_offsets[sequence]),
        k_first(shape.k_offsets[sequence]),
        queries(static_cast<int>(shape.q_offsets[sequence + 1] - q_first)),
        keys(static_cast<int>(shape.k_offsets[sequence + 1] - k_first)),
        shift(keys - queries),
        window(shape.window > 0 && shape.window < keys ? static_cast<int>(shape.window) : 0) {}

  // Only what says who sees whom.
  __device__ __forceinline__ AttentionPlace(int keys, int window)
      : q_first(0), k_first(0), queries(0), keys(keys), shift(0), window(window) {}

  __device__ __forceinline__ int first_key(int position) const {
    return window > 0 ? max(0, position - window + 1) : 0;
  }
  // One past the last position that sees `key`.
  __device__ __forceinline__ int last_position(int key) const {
    return window > 0 ? min(keys, key + window) : keys;
  }
  // Keys that `position` sees, counted from `key`.
  __device__ __forceinline__ void seen_keys(int position, int key, int& first, int& last) const {
    first = window > 0 ? position - window + 1 - key : -key, last = position - key;
  }
  // Positions that see `key`, counted from `position`.
  __device__ __forceinline__ void seeing(int key, int position, int& first, int& last) const {
    first = key - position, last = last_position(key) - 1 - position;
  }
  __device__ __forceinline__ bool sees(int position, int key) const {
    return key <= position && (window == 0 || key > position - window);
  }
  // Whether all positions [position, position + rows) see all keys [key, key + columns), or none sees any.
  __device__ __forceinline__ bool all_see(int position, int rows, int key, int columns) const {
    return key + columns - 1 <= position && (window == 0 || key > position + rows - 1 - window);
  }
  __device__ __forceinline__ bool none_sees(int position, int rows, int key, int columns) const {
    return key > position + rows - 1 || (window > 0 && key + columns - 1 <= position - window);
  }

  int64_t q_first, k_first;  // rows of the batch
  int queries, keys;
  int shift;   // position of the first query
  int window;  // 0: everything before
};

// Blocks take tiles by rank, rank 0 being the heaviest of a (sequence, head), so that the last blocks to
// start are short. Only a few (sequences, heads) are worked on at a time, so that their keys and values, or
// queries and output gradients, stay in the L2 cache.
struct AttentionOrder {
  unsigned pairs = 0;  // sequences * heads
  unsigned tiles = 0;  // of the longest sequence
  unsigned pairs_together = 0;

  // bytes: what one pair's tiles all read.
  AttentionOrder(int64_t pair_count, int64_t tile_count, int64_t bytes) {
    constexpr int64_t kCacheBytes = 16 << 20, kBlocksTogether = 512;
    SLUICE_CHECK(
        pair_count * tile_count < (int64_t{1} << 31), kUsage,
        "softmax_attention: {} sequences times heads of up to {} tiles each are more blocks than a grid has",
        pair_count, tile_count);
    const int64_t together = std::max(kCacheBytes / std::max<int64_t>(bytes, 1),
                                      divide_up(kBlocksTogether, std::max<int64_t>(tile_count, 1)));
    pairs = static_cast<unsigned>(pair_count);
    tiles = static_cast<unsigned>(tile_count);
    pairs_together =
        static_cast<unsigned>(std::min(std::max<int64_t>(together, 1), std::max<int64_t>(pair_count, 1)));
  }

  __host__ __device__ unsigned blocks() const { return pairs * tiles; }

  __device__ __forceinline__ void locate(unsigned block, int& pair, int& rank) const {
    const unsigned first = block / (pairs_together * tiles) * pairs_together;
    const unsigned together = min(pairs_together, pairs - first);
    const unsigned local = block - first * tiles;
    pair = static_cast<int>(first + local % together);
    rank = static_cast<int>(local / together);
  }
};

}  // namespace sluice::kernels
