#include "core/vector_exp.h"
#include "kernels/attention/attention_tiles_cpu.h"
#include "kernels/attention/softmax_attention.h"

namespace sluice::kernels::cpu {
namespace {

// The rows of one tile of queries or keys, for one head.
template <class T>
struct Rows {
  const T* data;
  int64_t stride;
};

template <class T>
Rows<T> rows_at(const T* base, int64_t stride, int64_t row, int64_t column) {
  return {base + row * stride + column, stride};
}

// A tile of rows owned by a thread, with the transposed copies that scores are made from.
template <class T>
struct Workspace {
  Workspace(T* memory, int64_t head_dim)
      : left(memory),
        right(left + head_dim * kOwnRows),
        probabilities(right + head_dim * kOwnRows),
        score_gradients(probabilities + kPassingRows * kOwnRows),
        first_sum(score_gradients + kPassingRows * kOwnRows),
        second_sum(first_sum + kOwnRows * head_dim) {}

  static int64_t elements(int64_t head_dim) { return 4 * kOwnRows * head_dim + 2 * kPassingRows * kOwnRows; }

  T* left;             // [D, kOwnRows]: scaled queries (dq) or keys (dk, dv)
  T* right;            // [D, kOwnRows]: output gradients (dq) or values (dk, dv)
  T* probabilities;    // [kPassingRows, kOwnRows]
  T* score_gradients;  // [kPassingRows, kOwnRows]
  T* first_sum;        // [kOwnRows, D]: dq or dk
  T* second_sum;       // [kOwnRows, D]: dv
};

// Scores and their upper gradients of the passing rows against the owned tile.
template <class T>
void multiply_with_own(const Workspace<T>& w, const Rows<T>& left, const Rows<T>& right, int64_t rows,
                       int64_t columns, int64_t head_dim) {
  tile_product<T>({rows, columns, head_dim, left.data, left.stride, 1, w.left, kOwnRows, w.probabilities,
                   kOwnRows, false});
  tile_product<T>({rows, columns, head_dim, right.data, right.stride, 1, w.right, kOwnRows, w.score_gradients,
                   kOwnRows, false});
}

// sum [own rows, D] += transposed coefficients [passing rows, own rows] times the passing rows.
template <class T>
void add_passing_rows(const T* coefficients, const Rows<T>& passing, int64_t rows, int64_t own,
                      int64_t head_dim, T* sum) {
  tile_product<T>(
      {own, head_dim, rows, coefficients, 1, kOwnRows, passing.data, passing.stride, sum, head_dim, true});
}

template <class T>
void write_rows(const T* sum, int64_t rows, int64_t columns, T* to, int64_t stride, bool accumulate) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < columns; ++d) {
      T& place = to[i * stride + d];
      place = accumulate ? place + sum[i * columns + d] : sum[i * columns + d];
    }
  }
}

// dq of one tile of queries, keys passing by; scores are [keys, queries].
template <class T>
void query_gradient(const SoftmaxAttentionBackward<T>& p, const AttentionTile& tile, T* memory) {
  const AttentionShape& s = p.shape;
  const AttentionSpan span(s, tile.sequence);
  const Workspace<T> w(memory, s.head_dim);
  const int64_t head = tile.head, column = head * s.head_dim;
  const int64_t kv_column = head / (s.heads / s.kv_heads) * s.head_dim;
  const int64_t first_row = span.q_first + tile.first;
  const int64_t position = span.shift + tile.first;
  const int64_t columns = padded<T>(tile.count);
  const T scale = static_cast<T>(s.scale);
  pack_transposed(p.q + first_row * p.q_stride + column, p.q_stride, tile.count, s.head_dim, scale, w.left);
  pack_transposed(p.d_o + first_row * p.d_o_stride + column, p.d_o_stride, tile.count, s.head_dim, T(1),
                  w.right);
  std::fill_n(w.first_sum, tile.count * s.head_dim, T(0));
  T lse[kOwnRows] = {}, delta[kOwnRows] = {};
  for (int64_t i = 0; i < tile.count; ++i) {
    lse[i] = p.lse[(first_row + i) * s.heads + head];
    delta[i] = p.delta[(first_row + i) * s.heads + head];
  }

  const int64_t end = position + tile.count;
  for (int64_t key = span.first_key(position) / kPassingRows * kPassingRows; key < end; key += kPassingRows) {
    const int64_t keys = std::min(kPassingRows, end - key);
    const Rows<T> k = rows_at(p.k, p.k_stride, span.k_first + key, kv_column);
    multiply_with_own(w, k, rows_at(p.v, p.v_stride, span.k_first + key, kv_column), keys, columns,
                      s.head_dim);
    mask_keys_by_queries(w.probabilities, keys, key, tile.count, position, columns, span);
    for (int64_t j = 0; j < keys; ++j) {
      const T* score = w.probabilities + j * kOwnRows;
      T* gradient = w.score_gradients + j * kOwnRows;
#pragma omp simd
      for (int64_t i = 0; i < columns; ++i) {
        gradient[i] = vector_exp(score[i] - lse[i]) * (gradient[i] - delta[i]) * scale;
      }
    }
    add_passing_rows(w.score_gradients, k, keys, tile.count, s.head_dim, w.first_sum);
  }
  write_rows(w.first_sum, tile.count, s.head_dim, p.dq + first_row * p.dq_stride + column, p.dq_stride,
             p.accumulate_dq);
}

// Adds what the queries of one head, passing by a tile of keys, give to its dk and dv; scores are [queries,
// keys].
template <class T>
void add_key_gradients(const SoftmaxAttentionBackward<T>& p, const AttentionTile& tile, int64_t head,
                       const Workspace<T>& w) {
  const AttentionShape& s = p.shape;
  const AttentionSpan span(s, tile.sequence);
  const int64_t column = head * s.head_dim;
  const int64_t columns = padded<T>(tile.count);
  const T scale = static_cast<T>(s.scale);
  const int64_t begin = std::max(tile.first, span.shift);
  const int64_t end = span.last_position(tile.first + tile.count - 1);
  for (int64_t position = begin; position < end; position += kPassingRows) {
    const int64_t queries = std::min(kPassingRows, end - position);
    const int64_t row = span.q_first + position - span.shift;
    const Rows<T> q = rows_at(p.q, p.q_stride, row, column);
    const Rows<T> d_o = rows_at(p.d_o, p.d_o_stride, row, column);
    multiply_with_own(w, q, d_o, queries, columns, s.head_dim);
    mask_queries_by_keys(w.probabilities, queries, position, tile.count, tile.first, columns, span);
    for (int64_t i = 0; i < queries; ++i) {
      const T lse = p.lse[(row + i) * s.heads + head], delta = p.delta[(row + i) * s.heads + head];
      T* probability = w.probabilities + i * kOwnRows;
      T* gradient = w.score_gradients + i * kOwnRows;
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) {
        probability[j] = vector_exp(probability[j] - lse);
        gradient[j] = probability[j] * (gradient[j] - delta) * scale;
      }
    }
    if (p.dk != nullptr) add_passing_rows(w.score_gradients, q, queries, tile.count, s.head_dim, w.first_sum);
    if (p.dv != nullptr)
      add_passing_rows(w.probabilities, d_o, queries, tile.count, s.head_dim, w.second_sum);
  }
}

// dk and dv of one tile of keys (tile.head is a kv head), over the query heads of its group in order.
template <class T>
void key_gradients(const SoftmaxAttentionBackward<T>& p, const AttentionTile& tile, T* memory) {
  const AttentionShape& s = p.shape;
  const Workspace<T> w(memory, s.head_dim);
  const int64_t column = tile.head * s.head_dim;
  const int64_t first_row = s.k_offsets[tile.sequence] + tile.first;
  pack_transposed(p.k + first_row * p.k_stride + column, p.k_stride, tile.count, s.head_dim,
                  static_cast<T>(s.scale), w.left);
  pack_transposed(p.v + first_row * p.v_stride + column, p.v_stride, tile.count, s.head_dim, T(1), w.right);
  std::fill_n(w.first_sum, 2 * kOwnRows * s.head_dim, T(0));
  const int64_t group = s.heads / s.kv_heads;
  for (int64_t head = tile.head * group; head < (tile.head + 1) * group; ++head) {
    add_key_gradients(p, tile, head, w);
  }
  if (p.dk != nullptr) {
    write_rows(w.first_sum, tile.count, s.head_dim, p.dk + first_row * p.dk_stride + column, p.dk_stride,
               p.accumulate_dk);
  }
  if (p.dv != nullptr) {
    write_rows(w.second_sum, tile.count, s.head_dim, p.dv + first_row * p.dv_stride + column, p.dv_stride,
               p.accumulate_dv);
  }
}

template <class T>
void fill_delta(const SoftmaxAttentionBackward<T>& p) {
  const AttentionShape& s = p.shape;
  const int64_t rows = s.q_offsets[s.sequences];
#pragma omp parallel for if (rows * s.heads * s.head_dim > 16384)
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < s.heads; ++head) {
      const T* o = p.o + row * p.o_stride + head * s.head_dim;
      const T* d_o = p.d_o + row * p.d_o_stride + head * s.head_dim;
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < s.head_dim; ++d) sum += o[d] * d_o[d];
      p.delta[row * s.heads + head] = sum;
    }
  }
}

}  // namespace

template <class T>
void softmax_attention_backward(const SoftmaxAttentionBackward<T>& p) {
  const AttentionShape& s = p.shape;
  fill_delta(p);
  const ThreadScratch<T> scratch(Workspace<T>::elements(s.head_dim));
  if (p.dq != nullptr) {
    const std::vector<AttentionTile> tiles = cut_into_tiles(s.q_offsets, s.sequences, s.heads);
#pragma omp parallel for schedule(dynamic) if (worth_threads(s))
    for (size_t i = 0; i < tiles.size(); ++i) query_gradient(p, tiles[i], scratch.of_this_thread());
  }
  if (p.dk != nullptr || p.dv != nullptr) {
    const std::vector<AttentionTile> tiles = cut_into_tiles(s.k_offsets, s.sequences, s.kv_heads);
#pragma omp parallel for schedule(dynamic) if (worth_threads(s))
    for (size_t i = 0; i < tiles.size(); ++i) key_gradients(p, tiles[i], scratch.of_this_thread());
  }
}

template void softmax_attention_backward(const SoftmaxAttentionBackward<float>&);
template void softmax_attention_backward(const SoftmaxAttentionBackward<double>&);

}  // namespace sluice::kernels::cpu
