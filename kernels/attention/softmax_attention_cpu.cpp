#include "kernels/attention/softmax_attention.h"

#include <cmath>

#include "core/vector_exp.h"
#include "kernels/attention/attention_tiles_cpu.h"

namespace sluice::kernels::cpu {
namespace {

// One thread's tile of queries: everything with queries along the contiguous dimension, so that the running
// maximum and sum of every query advance in parallel lanes.
template <class T>
struct Workspace {
  Workspace(T* memory, int64_t head_dim)
      : queries(memory),
        scores(queries + head_dim * kOwnRows),
        output(scores + kPassingRows * kOwnRows),
        maximum(output + kOwnRows * head_dim),
        sum(maximum + kOwnRows),
        shrink(sum + kOwnRows) {}

  static int64_t elements(int64_t head_dim) {
    return 2 * kOwnRows * head_dim + kPassingRows * kOwnRows + 3 * kOwnRows;
  }

  T* queries;  // [D, kOwnRows], scaled
  T* scores;   // [kPassingRows, kOwnRows], then probabilities relative to the running maximum
  T* output;   // [kOwnRows, D]
  T* maximum;  // [kOwnRows]
  T* sum;      // [kOwnRows]
  T* shrink;   // [kOwnRows]: what the passing tile's maximum makes of the sums so far
};

// Online softmax: scores become exp(score - maximum so far), sums and output follow a risen maximum.
template <class T>
void absorb_scores(const Workspace<T>& w, int64_t keys, int64_t queries, int64_t columns, int64_t head_dim) {
  T highest[kOwnRows];
  std::copy_n(w.maximum, kOwnRows, highest);
  for (int64_t j = 0; j < keys; ++j) {
    const T* row = w.scores + j * kOwnRows;
#pragma omp simd
    for (int64_t i = 0; i < columns; ++i) highest[i] = row[i] > highest[i] ? row[i] : highest[i];
  }
#pragma omp simd
  for (int64_t i = 0; i < columns; ++i) {
    w.shrink[i] = vector_exp(w.maximum[i] - highest[i]);
    w.maximum[i] = highest[i];
    w.sum[i] *= w.shrink[i];
  }
  for (int64_t j = 0; j < keys; ++j) {
    T* row = w.scores + j * kOwnRows;
#pragma omp simd
    for (int64_t i = 0; i < columns; ++i) {
      row[i] = vector_exp(row[i] - highest[i]);
      w.sum[i] += row[i];
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    T* row = w.output + i * head_dim;
    const T factor = w.shrink[i];
#pragma omp simd
    for (int64_t d = 0; d < head_dim; ++d) row[d] *= factor;
  }
}

template <class T>
void attend(const SoftmaxAttentionForward<T>& p, const AttentionTile& tile, T* memory) {
  const AttentionShape& s = p.shape;
  const AttentionSpan span(s, tile.sequence);
  const Workspace<T> w(memory, s.head_dim);
  const int64_t column = tile.head * s.head_dim;
  const int64_t kv_column = tile.head / (s.heads / s.kv_heads) * s.head_dim;
  const int64_t first_row = span.q_first + tile.first;
  const int64_t position = span.shift + tile.first;
  const int64_t columns = padded<T>(tile.count);
  pack_transposed(p.q + first_row * p.q_stride + column, p.q_stride, tile.count, s.head_dim,
                  static_cast<T>(s.scale), w.queries);
  // Finite, so that a query whose keys are all still to come keeps exp(-inf - maximum) = 0.
  std::fill_n(w.maximum, kOwnRows, std::numeric_limits<T>::lowest());
  std::fill_n(w.sum, kOwnRows, T(0));
  std::fill_n(w.output, tile.count * s.head_dim, T(0));

  const int64_t end = position + tile.count;
  for (int64_t key = span.first_key(position) / kPassingRows * kPassingRows; key < end; key += kPassingRows) {
    const int64_t keys = std::min(kPassingRows, end - key);
    const T* k = p.k + (span.k_first + key) * p.k_stride + kv_column;
    const T* v = p.v + (span.k_first + key) * p.v_stride + kv_column;
    tile_product<T>(
        {keys, columns, s.head_dim, k, p.k_stride, 1, w.queries, kOwnRows, w.scores, kOwnRows, false});
    mask_keys_by_queries(w.scores, keys, key, tile.count, position, columns, span);
    absorb_scores(w, keys, tile.count, columns, s.head_dim);
    tile_product<T>(
        {tile.count, s.head_dim, keys, w.scores, 1, kOwnRows, v, p.v_stride, w.output, s.head_dim, true});
  }

  for (int64_t i = 0; i < tile.count; ++i) {
    const T* row = w.output + i * s.head_dim;
    T* o = p.o + (first_row + i) * p.o_stride + column;
    const T inverse = T(1) / w.sum[i];
#pragma omp simd
    for (int64_t d = 0; d < s.head_dim; ++d) o[d] = row[d] * inverse;
    if (p.lse != nullptr) p.lse[(first_row + i) * s.heads + tile.head] = w.maximum[i] + std::log(w.sum[i]);
  }
}

}  // namespace

template <class T>
void softmax_attention_forward(const SoftmaxAttentionForward<T>& p) {
  const std::vector<AttentionTile> tiles =
      cut_into_tiles(p.shape.q_offsets, p.shape.sequences, p.shape.heads);
  const ThreadScratch<T> scratch(Workspace<T>::elements(p.shape.head_dim));
#pragma omp parallel for schedule(dynamic) if (worth_threads(p.shape))
  for (size_t i = 0; i < tiles.size(); ++i) attend(p, tiles[i], scratch.of_this_thread());
}

template void softmax_attention_forward(const SoftmaxAttentionForward<float>&);
template void softmax_attention_forward(const SoftmaxAttentionForward<double>&);

}  // namespace sluice::kernels::cpu
