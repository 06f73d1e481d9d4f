// What the passes of the CPU attention share: how sequences are cut into tiles, which keys and queries see
// each other, and memory for one thread's tiles.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "kernels/attention/softmax_attention.h"
#include "kernels/attention/tile_product_cpu.h"

namespace sluice::kernels::cpu {

// Rows of the tile a thread owns and accumulates for, and of the tiles of the other side that pass by. Those
// are aligned to the sequence's start, so that a query's sums are cut at the same keys whichever queries come
// with it.
inline constexpr int64_t kOwnRows = 32;
inline constexpr int64_t kPassingRows = 64;

struct AttentionTile {
  int64_t sequence = 0;
  int64_t head = 0;
  int64_t first = 0;  // row in the sequence
  int64_t count = 0;
};

// The tiles of one head follow each other: they read the same rows of the other side, out of cache.
inline std::vector<AttentionTile> cut_into_tiles(const int64_t* offsets, int64_t sequences, int64_t heads) {
  std::vector<AttentionTile> tiles;
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t length = offsets[s + 1] - offsets[s];
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t first = 0; first < length; first += kOwnRows) {
        tiles.push_back({s, head, first, std::min(kOwnRows, length - first)});
      }
    }
  }
  return tiles;
}

// Whether waking threads costs less than it saves.
inline bool worth_threads(const AttentionShape& shape) {
  return shape.k_offsets[shape.sequences] * shape.heads * shape.head_dim > 32768;
}

// One sequence's place in the packed batch.
struct AttentionSpan {
  AttentionSpan(const AttentionShape& shape, int64_t sequence)
      : q_first(shape.q_offsets[sequence]),
        k_first(shape.k_offsets[sequence]),
        keys(shape.k_offsets[sequence + 1] - k_first),
        shift(keys - (shape.q_offsets[sequence + 1] - q_first)),
        window(shape.window) {}

  int64_t first_key(int64_t position) const {
    return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
  }
  // One past the last position that sees `key`.
  int64_t last_position(int64_t key) const { return window > 0 ? std::min(keys, key + window) : keys; }

  int64_t q_first, k_first;  // rows of the batch
  int64_t keys;
  int64_t shift;  // position of the first query
  int64_t window;
};

// One block of memory for each thread, aligned to cache lines.
template <class T>
class ThreadScratch {
 public:
  explicit ThreadScratch(int64_t elements)
      : elements_((elements + kAlignment - 1) / kAlignment * kAlignment),
        memory_(static_cast<T*>(::operator new(
            static_cast<size_t>(omp_get_max_threads()) * static_cast<size_t>(elements_) * sizeof(T),
            std::align_val_t(kAlignment)))) {}

  T* of_this_thread() const { return memory_.get() + omp_get_thread_num() * elements_; }

 private:
  static constexpr int64_t kAlignment = 64;
  struct Release {
    void operator()(T* pointer) const { ::operator delete(pointer, std::align_val_t(kAlignment)); }
  };
  int64_t elements_;
  std::unique_ptr<T, Release> memory_;
};

// [rows, columns] -> [columns, kOwnRows] times `factor`, zeros right of the last row up to a whole vector.
template <class T>
void pack_transposed(const T* from, int64_t stride, int64_t rows, int64_t columns, T factor, T* to) {
  for (int64_t column = 0; column < columns; ++column) {
    T* out = to + column * kOwnRows;
    for (int64_t row = 0; row < rows; ++row) out[row] = from[row * stride + column] * factor;
    std::fill(out + rows, out + kOwnRows, T(0));
  }
}

// How many of a tile's columns are computed: its own rows, rounded up to whole vectors.
template <class T>
int64_t padded(int64_t rows) {
  constexpr int64_t kLanes = tile::kLanes<T>;
  return (rows + kLanes - 1) / kLanes * kLanes;
}

// Leaves columns [begin, end) of a row of scores, and makes the others invisible.
template <class T>
void keep_only(T* scores, int64_t columns, int64_t begin, int64_t end) {
  constexpr T kInvisible = -std::numeric_limits<T>::infinity();
  begin = std::clamp<int64_t>(begin, 0, columns);
  end = std::clamp<int64_t>(end, begin, columns);
  std::fill(scores, scores + begin, kInvisible);
  std::fill(scores + end, scores + columns, kInvisible);
}

// Scores [keys, queries] of keys from `key` on and queries from position `position` on: hides what is ahead
// of a query or behind its window.
template <class T>
void mask_keys_by_queries(T* scores, int64_t keys, int64_t key, int64_t queries, int64_t position,
                          int64_t columns, const AttentionSpan& span) {
  if (key + keys - 1 <= position && key >= span.first_key(position + queries - 1)) return;
  for (int64_t j = 0; j < keys; ++j) {
    keep_only(scores + j * kOwnRows, columns, key + j - position, span.last_position(key + j) - position);
  }
}

// The same for scores [queries, keys].
template <class T>
void mask_queries_by_keys(T* scores, int64_t queries, int64_t position, int64_t keys, int64_t key,
                          int64_t columns, const AttentionSpan& span) {
  if (key + keys - 1 <= position && key >= span.first_key(position + queries - 1)) return;
  for (int64_t i = 0; i < queries; ++i) {
    keep_only(scores + i * kOwnRows, columns, span.first_key(position + i) - key, position + i + 1 - key);
  }
}

}  // namespace sluice::kernels::cpu
