// dq, and dk and dv, in float products: any element type, alignment and head_dim up to 256.
#include "core/cuda_check.h"
#include "kernels/attention/attention_float_tiles.cuh"
#include "kernels/attention/attention_paths.h"

namespace sluice::kernels {
namespace {

template <class Tiles>
inline constexpr int SHARED_BYTES = (4 * Tiles::TILE + Tiles::SCORES) * 4;  // own two, passing two; scores

// P and dS of a pair of rows, from their score, dP, and the query's statistics.
struct ScoreGradient {
  float probability = 0.f, gradient = 0.f;
  __device__ __forceinline__ ScoreGradient(float score, float d_p, float lse, float delta, float scale)
      : probability(exp2f(fmaf(score, scale, -lse) * kLog2E)),
        gradient(probability * (d_p - delta) * scale) {}
};

template <class T, class Tiles>
__global__ void __launch_bounds__(Tiles::THREADS)
    query_gradient(const __grid_constant__ SoftmaxAttentionBackward<T> p,
                   const __grid_constant__ AttentionOrder order, bool packed) {
  constexpr int R = Tiles::R, ROWS = Tiles::ROWS;
  extern __shared__ __align__(16) float floats[];
  float* const queries = floats;
  float* const gradients = queries + Tiles::TILE;
  float* const keys = gradients + Tiles::TILE;
  float* const values = keys + Tiles::TILE;
  float* const scores = values + Tiles::TILE;
  const AttentionShape& s = p.shape;
  int pair, rank;
  order.locate(blockIdx.x, pair, rank);
  const int heads = static_cast<int>(s.heads), head = pair % heads, head_dim = static_cast<int>(s.head_dim);
  const AttentionPlace place(s, pair / heads);
  const int first = (static_cast<int>(order.tiles) - 1 - rank) * ROWS;
  if (first >= place.queries) return;

  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  const int rows = min(ROWS, place.queries - first), position = place.shift + first, end = position + rows;
  const int64_t q_row = place.q_first + first, column = static_cast<int64_t>(head) * head_dim;
  const int64_t kv_column = head / (s.heads / s.kv_heads) * head_dim;
  copy_float_rows<Tiles>(queries, p.q + q_row * p.q_stride + column, p.q_stride, rows, head_dim, packed);
  copy_float_rows<Tiles>(gradients, p.d_o + q_row * p.d_o_stride + column, p.d_o_stride, rows, head_dim,
                         packed);
  float lse[R], delta[R], dq[R][Tiles::C][4];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int64_t at = (q_row + y * R + r) * s.heads + head;
    lse[r] = y * R + r < rows ? p.lse[at] : 0.f;
    delta[r] = y * R + r < rows ? p.delta[at] : 0.f;
  }
  clear_sums<Tiles>(dq);

  for (int key = place.first_key(position); key < end; key += ROWS) {
    const int64_t k_row = place.k_first + key;
    __syncthreads();  // nobody reads the tiles before any more
    copy_float_rows<Tiles>(keys, p.k + k_row * p.k_stride + kv_column, p.k_stride, end - key, head_dim,
                           packed);
    copy_float_rows<Tiles>(values, p.v + k_row * p.v_stride + kv_column, p.v_stride, end - key, head_dim,
                           packed);
    __syncthreads();
    float score[R][R], d_p[R][R];
    multiply_tiles<Tiles>(score, queries, keys, head_dim);
    multiply_tiles<Tiles>(d_p, gradients, values, head_dim);
#pragma unroll
    for (int r = 0; r < R; ++r) {
#pragma unroll
      for (int c = 0; c < R; ++c) {
        const bool seen = place.sees(position + y * R + r, key + x + 16 * c) && y * R + r < rows;
        const ScoreGradient g(score[r][c], d_p[r][c], lse[r], delta[r], static_cast<float>(s.scale));
        score[r][c] = seen ? g.gradient : 0.f;
      }
    }
    store_scores<Tiles>(scores, score);
    __syncthreads();
    add_weighted_rows<Tiles>(dq, scores, keys);
  }
  write_sums<Tiles>(dq, p.dq + q_row * p.dq_stride + column, p.dq_stride, rows, head_dim, 1.f,
                    p.accumulate_dq);
}

template <class T, class Tiles>
__global__ void __launch_bounds__(Tiles::THREADS)
    key_gradients(const __grid_constant__ SoftmaxAttentionBackward<T> p,
                  const __grid_constant__ AttentionOrder order, bool packed) {
  constexpr int R = Tiles::R, ROWS = Tiles::ROWS;
  extern __shared__ __align__(16) float floats[];
  float* const keys = floats;
  float* const values = keys + Tiles::TILE;
  float* const queries = values + Tiles::TILE;
  float* const gradients = queries + Tiles::TILE;
  float* const scores = gradients + Tiles::TILE;  // transposed: [keys, queries]
  const AttentionShape& s = p.shape;
  int pair, rank;
  order.locate(blockIdx.x, pair, rank);
  const int kv_heads = static_cast<int>(s.kv_heads), kv_head = pair % kv_heads;
  const int group = static_cast<int>(s.heads) / kv_heads, head_dim = static_cast<int>(s.head_dim);
  const AttentionPlace place(s, pair / kv_heads);
  const int first = rank * ROWS;
  if (first >= place.keys) return;

  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  const int rows = min(ROWS, place.keys - first);
  const int begin = max(first, place.shift), end = place.last_position(first + rows - 1);
  const int64_t k_row = place.k_first + first, kv_column = static_cast<int64_t>(kv_head) * head_dim;
  copy_float_rows<Tiles>(keys, p.k + k_row * p.k_stride + kv_column, p.k_stride, rows, head_dim, packed);
  copy_float_rows<Tiles>(values, p.v + k_row * p.v_stride + kv_column, p.v_stride, rows, head_dim, packed);
  float dk[R][Tiles::C][4], dv[R][Tiles::C][4];
  clear_sums<Tiles>(dk);
  clear_sums<Tiles>(dv);

  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int position = begin; position < end; position += ROWS) {
      const int count = end - position;
      const int64_t q_row = place.q_first + position - place.shift, column = head * head_dim;
      __syncthreads();  // nobody reads the tiles before any more
      copy_float_rows<Tiles>(queries, p.q + q_row * p.q_stride + column, p.q_stride, count, head_dim, packed);
      copy_float_rows<Tiles>(gradients, p.d_o + q_row * p.d_o_stride + column, p.d_o_stride, count, head_dim,
                             packed);
      __syncthreads();
      float probability[R][R], gradient[R][R];
      multiply_tiles<Tiles>(probability, keys, queries, head_dim);
      multiply_tiles<Tiles>(gradient, values, gradients, head_dim);
#pragma unroll
      for (int c = 0; c < R; ++c) {
        const int query = x + 16 * c;
        const bool valid = query < count;
        const int64_t at = (q_row + query) * s.heads + head;
        const float lse = valid ? p.lse[at] : 0.f, delta = valid ? p.delta[at] : 0.f;
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const bool seen = valid && place.sees(position + query, first + y * R + r);
          const ScoreGradient g(probability[r][c], gradient[r][c], lse, delta, static_cast<float>(s.scale));
          probability[r][c] = seen ? g.probability : 0.f;
          gradient[r][c] = seen ? g.gradient : 0.f;
        }
      }
      store_scores<Tiles>(scores, probability);
      __syncthreads();
      add_weighted_rows<Tiles>(dv, scores, gradients);
      __syncthreads();
      store_scores<Tiles>(scores, gradient);
      __syncthreads();
      add_weighted_rows<Tiles>(dk, scores, queries);
    }
  }
  if (p.dk != nullptr) {
    write_sums<Tiles>(dk, p.dk + k_row * p.dk_stride + kv_column, p.dk_stride, rows, head_dim, 1.f,
                      p.accumulate_dk);
  }
  if (p.dv != nullptr) {
    write_sums<Tiles>(dv, p.dv + k_row * p.dv_stride + kv_column, p.dv_stride, rows, head_dim, 1.f,
                      p.accumulate_dv);
  }
}

template <class T>
bool all_rows_pack(const SoftmaxAttentionBackward<T>& p) {
  const int64_t columns = p.shape.head_dim;
  return rows_pack(p.q, p.q_stride, columns) && rows_pack(p.k, p.k_stride, columns) &&
         rows_pack(p.v, p.v_stride, columns) && rows_pack(p.d_o, p.d_o_stride, columns);
}

template <auto kernel, class Tiles, class T>
void launch(const SoftmaxAttentionBackward<T>& p, const AttentionOrder& order, const char* name) {
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES<Tiles>));
    return true;
  }();
  kernel<<<order.blocks(), Tiles::THREADS, SHARED_BYTES<Tiles>, p.stream>>>(p, order, all_rows_pack(p));
  SLUICE_CHECK_LAUNCH(name);
}

template <class Tiles, class T>
void launch_query_gradient(const SoftmaxAttentionBackward<T>& p) {
  const AttentionShape& s = p.shape;
  launch<query_gradient<T, Tiles>, Tiles>(
      p,
      AttentionOrder(s.sequences * s.heads, divide_up(s.longest_q, Tiles::ROWS),
                     2 * s.longest_k * s.head_dim * static_cast<int64_t>(sizeof(T)) * s.kv_heads / s.heads),
      "softmax_attention_query_gradient");
}

template <class Tiles, class T>
void launch_key_gradients(const SoftmaxAttentionBackward<T>& p) {
  const AttentionShape& s = p.shape;
  launch<key_gradients<T, Tiles>, Tiles>(
      p,
      AttentionOrder(s.sequences * s.kv_heads, divide_up(s.longest_k, Tiles::ROWS),
                     2 * s.longest_q * s.head_dim * static_cast<int64_t>(sizeof(T)) * s.heads / s.kv_heads),
      "softmax_attention_key_gradients");
}

}  // namespace

template <class T>
void cuda::query_gradient_in_float(const SoftmaxAttentionBackward<T>& p) {
  if (p.shape.head_dim <= 64) {
    launch_query_gradient<FloatTiles<64, 64>>(p);
  } else if (p.shape.head_dim <= 128) {
    launch_query_gradient<FloatTiles<128, 64>>(p);
  } else {
    launch_query_gradient<FloatTiles<256, 32>>(p);
  }
}

template <class T>
void cuda::key_gradients_in_float(const SoftmaxAttentionBackward<T>& p) {
  if (p.shape.head_dim <= 64) {
    launch_key_gradients<FloatTiles<64, 64>>(p);
  } else if (p.shape.head_dim <= 128) {
    launch_key_gradients<FloatTiles<128, 64>>(p);
  } else {
    launch_key_gradients<FloatTiles<256, 32>>(p);
  }
}

template void cuda::query_gradient_in_float(const SoftmaxAttentionBackward<float>&);
template void cuda::query_gradient_in_float(const SoftmaxAttentionBackward<bfloat16>&);
template void cuda::key_gradients_in_float(const SoftmaxAttentionBackward<float>&);
template void cuda::key_gradients_in_float(const SoftmaxAttentionBackward<bfloat16>&);

}  // namespace sluice::kernels
