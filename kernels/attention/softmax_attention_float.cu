// Forward in float products: any element type, alignment and head_dim up to 256. A block owns 64 queries of
// one head and walks over tiles of 64 keys; with splits, over its share of them.
#include "core/cuda_check.h"
#include "kernels/attention/attention_float_tiles.cuh"
#include "kernels/attention/attention_paths.h"
#include "kernels/attention/attention_splits.cuh"

namespace sluice::kernels {
namespace {

template <int D>
using Tiles64 = FloatTiles<D, 64>;
template <class Tiles>
inline constexpr int SHARED_BYTES = (2 * Tiles::TILE + Tiles::SCORES) * 4;  // queries; keys or values; scores

// Over the 16 threads that share a row.
__device__ __forceinline__ float maximum_of_16(float x) {
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
  return x;
}
__device__ __forceinline__ float sum_of_16(float x) {
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
}

// Scores become exponentials relative to the running maximum; sums follow a risen maximum.
template <class Tiles, class Sees>
__device__ __forceinline__ void absorb_scores(float (&score)[Tiles::R][Tiles::R],
                                              float (&o)[Tiles::R][Tiles::C][4], float (&maximum)[Tiles::R],
                                              float (&total)[Tiles::R], float factor, Sees sees) {
#pragma unroll
  for (int r = 0; r < Tiles::R; ++r) {
    float highest = maximum[r];
#pragma unroll
    for (int c = 0; c < Tiles::R; ++c) {
      score[r][c] = sees(r, c) ? score[r][c] * factor : -INFINITY;
      highest = fmaxf(highest, score[r][c]);
    }
    highest = maximum_of_16(highest);
    const float shrink = exp2f(maximum[r] - highest);
    maximum[r] = highest;
    float sum = 0.f;
#pragma unroll
    for (int c = 0; c < Tiles::R; ++c) {
      score[r][c] = exp2f(score[r][c] - highest);
      sum += score[r][c];
    }
    total[r] = fmaf(total[r], shrink, sum_of_16(sum));
#pragma unroll
    for (int e = 0; e < 4 * Tiles::C; ++e) o[r][e / 4][e % 4] *= shrink;
  }
}

template <class T, class Tiles>
__global__ void __launch_bounds__(Tiles::THREADS)
    attend(const __grid_constant__ SoftmaxAttentionForward<T> p, const __grid_constant__ AttentionOrder order,
           const __grid_constant__ AttentionSplits splits, bool packed) {
  constexpr int R = Tiles::R, ROWS = Tiles::ROWS;
  extern __shared__ __align__(16) float floats[];
  float* const queries = floats;
  float* const passing = queries + Tiles::TILE;
  float* const scores = passing + Tiles::TILE;
  const AttentionShape& s = p.shape;
  int pair, rank;
  order.locate(blockIdx.x, pair, rank);
  const int heads = static_cast<int>(s.heads), head = pair % heads, sequence = pair / heads;
  const int head_dim = static_cast<int>(s.head_dim);
  const AttentionPlace place(s, sequence);
  const int split = rank % splits.splits;
  const int first = (static_cast<int>(order.tiles) / splits.splits - 1 - rank / splits.splits) * ROWS;
  if (first >= place.queries) return;

  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  const int rows = min(ROWS, place.queries - first), position = place.shift + first;
  int begin = place.first_key(position), end = position + rows;
  if (splits.splits > 1) {
    begin += split * splits.keys;
    end = min(end, begin + splits.keys);
  }
  const int64_t q_row = place.q_first + first, column = static_cast<int64_t>(head) * head_dim;
  const int64_t kv_column = head / (s.heads / s.kv_heads) * head_dim;
  copy_float_rows<Tiles>(queries, p.q + q_row * p.q_stride + column, p.q_stride, rows, head_dim, packed);

  float o[R][Tiles::C][4], maximum[R], total[R];
  clear_sums<Tiles>(o);
#pragma unroll
  for (int r = 0; r < R; ++r) maximum[r] = kLowest, total[r] = 0.f;
  for (int key = begin; key < end; key += ROWS) {
    const int64_t k_row = place.k_first + key;
    __syncthreads();  // nobody reads the tile before any more
    copy_float_rows<Tiles>(passing, p.k + k_row * p.k_stride + kv_column, p.k_stride, end - key, head_dim,
                           packed);
    __syncthreads();
    float score[R][R];
    multiply_tiles<Tiles>(score, queries, passing, head_dim);
    absorb_scores<Tiles>(score, o, maximum, total, static_cast<float>(s.scale) * kLog2E, [&](int r, int c) {
      return key + x + 16 * c < end && place.sees(position + y * R + r, key + x + 16 * c);
    });
    store_scores<Tiles>(scores, score);
    __syncthreads();
    copy_float_rows<Tiles>(passing, p.v + k_row * p.v_stride + kv_column, p.v_stride, end - key, head_dim,
                           packed);
    __syncthreads();
    add_weighted_rows<Tiles>(o, scores, passing);
  }

#pragma unroll
  for (int r = 0; r < R; ++r) {
    const float inverse = total[r] == 0.f ? 0.f : 1.f / total[r];
#pragma unroll
    for (int e = 0; e < 4 * Tiles::C; ++e) o[r][e / 4][e % 4] *= inverse;
    const int row = y * R + r;
    if (x != 0 || row >= rows) continue;
    if (splits.splits > 1) {
      splits.logarithms[split * splits.slots + AttentionSplits::slot(s, sequence, first + row, head)] =
          total[r] == 0.f ? -INFINITY : maximum[r] + log2f(total[r]);
    } else if (p.lse != nullptr) {
      p.lse[(q_row + row) * s.heads + head] = (maximum[r] + log2f(total[r])) * kLn2;
    }
  }
  if (splits.splits > 1) {
    float* const sums = splits.sums + split * splits.slots * head_dim;
    visit_sums<Tiles>(o, rows, head_dim, [&](int r, int col, float value) {
      sums[AttentionSplits::slot(s, sequence, first + y * R + r, head) * head_dim + col] = value;
    });
  } else {
    write_sums<Tiles>(o, p.o + q_row * p.o_stride + column, p.o_stride, rows, head_dim, 1.f, false);
  }
}

template <class Tiles, class T>
void launch(const SoftmaxAttentionForward<T>& p, const AttentionSplits& splits) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(
      s.sequences * s.heads, divide_up(s.longest_q, Tiles::ROWS) * splits.splits,
      2 * s.longest_k * s.head_dim * static_cast<int64_t>(sizeof(T)) * s.kv_heads / s.heads);
  const bool packed = rows_pack(p.q, p.q_stride, s.head_dim) && rows_pack(p.k, p.k_stride, s.head_dim) &&
                      rows_pack(p.v, p.v_stride, s.head_dim);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(attend<T, Tiles>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           SHARED_BYTES<Tiles>));
    return true;
  }();
  attend<T, Tiles>
      <<<order.blocks(), Tiles::THREADS, SHARED_BYTES<Tiles>, p.stream>>>(p, order, splits, packed);
  SLUICE_CHECK_LAUNCH("softmax_attention_forward");
}

}  // namespace

template <class T>
void cuda::attend_in_float(const SoftmaxAttentionForward<T>& p) {
  AttentionSplits splits = splits_in_float(p.shape);
  splits.place_in(p.workspace, p.shape);
  if (p.shape.head_dim <= 64) {
    launch<Tiles64<64>>(p, splits);
  } else if (p.shape.head_dim <= 128) {
    launch<Tiles64<128>>(p, splits);
  } else {
    launch<Tiles64<256>>(p, splits);
  }
  if (splits.splits > 1) combine_splits(p, splits);
}

template void cuda::attend_in_float(const SoftmaxAttentionForward<float>&);
template void cuda::attend_in_float(const SoftmaxAttentionForward<bfloat16>&);

}  // namespace sluice::kernels
