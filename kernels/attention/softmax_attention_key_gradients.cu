// dk and dv on tensor cores. A warp owns 16 * MT keys; the queries of all heads that use them pass, 16 at a
// time: transposed scores S^T = K Q^T and dP^T = V dO^T, from them P^T and dS^T in registers, dV += P^T dO
// and dK += dS^T Q.
#include "core/cuda_check.h"
#include "kernels/attention/attention_gradients.cuh"
#include "kernels/attention/attention_paths.h"

namespace sluice::kernels {
namespace {

// 4 bytes from global to shared memory; zero where `valid` is false.
__device__ __forceinline__ void copy_async_4(uint32_t shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared), "l"(global), "r"(valid ? 4 : 0)
               : "memory");
}

// The sums for a warp's rows.
template <class Tiles>
struct KeySums {
  float dk[Tiles::MT][Tiles::D / 8][4];
  float dv[Tiles::MT][Tiles::D / 8][4];
};

// delta, and lse: of the slice's queries.
template <class Tiles>
__device__ __forceinline__ void start_slice(Slice<Tiles>& slice, const OwnRows<Tiles>& own,
                                            const float* delta, uint32_t columns, int bytes, int lane) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const float2 d = *reinterpret_cast<const float2*>(delta + n * 8 + lane % 4 * 2);
#pragma unroll
    for (int mt = 0; mt < Tiles::MT; ++mt) {
      float(&c)[4] = slice.gradient[mt][n];
      c[0] = c[2] = -d.x, c[1] = c[3] = -d.y;
    }
  }
  slice.multiply(own, columns, bytes);
}

template <class Tiles>
__device__ __forceinline__ void finish_slice(Slice<Tiles>& slice, const float* lse, float factor,
                                             KeySums<Tiles>& sums, uint32_t rows, int bytes, int lane) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const float2 l = *reinterpret_cast<const float2*>(lse + n * 8 + lane % 4 * 2);
    const float logarithm[2] = {l.x * kLog2E, l.y * kLog2E};
#pragma unroll
    for (int mt = 0; mt < Tiles::MT; ++mt) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& probability = slice.score[mt][n][e];
        probability = exp2_approximate(fmaf(probability, factor, -logarithm[e % 2]));
        slice.gradient[mt][n][e] *= probability;
      }
    }
  }
  add_passing_rows<Tiles>(sums.dv, slice.score, rows, bytes + Tiles::TILE_BYTES);
  add_passing_rows<Tiles>(sums.dk, slice.gradient, rows, bytes);
}

template <class Tiles>
inline constexpr int SHARED_BYTES = Tiles::TILES_BYTES + 4 * Tiles::PASSING * 4;

template <class Tiles>
__global__ void __launch_bounds__(Tiles::THREADS, Tiles::BLOCKS)
    key_gradients(const __grid_constant__ SoftmaxAttentionBackward<bfloat16> p,
                  const __grid_constant__ AttentionOrder order) {
  constexpr int D = Tiles::D, MT = Tiles::MT, QUERIES = Tiles::PASSING, THREADS = Tiles::THREADS;
  extern __shared__ __align__(1024) unsigned char memory[];
  const AttentionShape& s = p.shape;
  int pair, rank;
  order.locate(blockIdx.x, pair, rank);
  const int kv_heads = static_cast<int>(s.kv_heads), kv_head = pair % kv_heads;
  const int group = static_cast<int>(s.heads) / kv_heads, head_dim = static_cast<int>(s.head_dim);
  const AttentionPlace place(s, pair / kv_heads);
  const int first = rank * Tiles::ROWS;  // the first keys are seen most
  if (first >= place.keys) return;

  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int rows = min(Tiles::ROWS, place.keys - first);
  // Positions of the queries that see any of the keys; they pass once for each head.
  const int begin = max(first, place.shift), end = place.last_position(first + rows - 1);
  const int steps = begin < end ? (end - begin + QUERIES - 1) / QUERIES * group : 0;
  const int64_t k_row = place.k_first + first, kv_column = static_cast<int64_t>(kv_head) * head_dim;

  const uint32_t own_tile = shared_address(memory), ring = own_tile + 2 * Tiles::OWN_BYTES;
  float* const statistics =
      reinterpret_cast<float*>(memory + Tiles::TILES_BYTES);  // [2 stages, lse and delta]
  // What is copied next.
  int64_t head = static_cast<int64_t>(kv_head) * group;
  const int64_t q_row = place.q_first + begin - place.shift;
  const auto rows_of_head = [&](const bfloat16* from, int64_t stride) {
    return RowCopier<D, QUERIES, THREADS>(from + q_row * stride + head * head_dim, stride, head_dim, thread);
  };
  const auto statistic_of_head = [&] {  // lse for the first threads, delta for the next
    return (thread < QUERIES ? p.lse : p.delta) + (q_row + thread % QUERIES) * s.heads + head;
  };
  auto queries = rows_of_head(p.q, p.q_stride), gradients = rows_of_head(p.d_o, p.d_o_stride);
  const float* statistic = statistic_of_head();
  const auto copy_queries = [&](int position, int stage) {
    const int count = end - position;
    const uint32_t tile = ring + stage * 2 * Tiles::TILE_BYTES;
    queries.copy(tile, count);
    gradients.copy(tile + Tiles::TILE_BYTES, count);
    if (thread < 2 * QUERIES) {
      copy_async_4(shared_address(statistics + stage * 2 * QUERIES + thread), statistic,
                   thread % QUERIES < count);
    }
    statistic += QUERIES * s.heads;
    commit_copies();
  };
  static_assert(THREADS >= 2 * QUERIES);
  RowCopier<D, Tiles::ROWS, THREADS>(p.k + k_row * p.k_stride + kv_column, p.k_stride, head_dim, thread)
      .copy(own_tile, rows);
  RowCopier<D, Tiles::ROWS, THREADS>(p.v + k_row * p.v_stride + kv_column, p.v_stride, head_dim, thread)
      .copy(own_tile + Tiles::OWN_BYTES, rows);
  commit_copies();
  if (steps > 0) copy_queries(begin, 0);

  const int own_first = warp * Tiles::WARP_ROWS, own_rows = min(Tiles::WARP_ROWS, rows - own_first);
  const bool idle = own_rows <= 0;    // a warp past the last row
  const int key = first + own_first;  // position of the warp's first row
  wait_for_copies<0>();
  __syncthreads();
  const OwnRows<Tiles> own(own_tile + own_first * Tiles::PITCH + SharedTile<D>::rows_first(lane));
  const float factor = static_cast<float>(s.scale) * kLog2E;
  KeySums<Tiles> sums;
  fill(sums.dk, 0.f);
  fill(sums.dv, 0.f);

  int position = begin, following;  // of a tile's first query
  for (int left = steps, stage = 0; left > 0; --left, stage ^= 1, position = following) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is there, and nobody reads the other any more
    following = position + QUERIES < end ? position + QUERIES : begin;
    if (left > 1) {
      if (following == begin) {
        ++head;
        queries = rows_of_head(p.q, p.q_stride), gradients = rows_of_head(p.d_o, p.d_o_stride);
        statistic = statistic_of_head();
      }
      copy_queries(following, stage ^ 1);
    }
    if (idle) continue;
    const uint32_t tile = ring + stage * 2 * Tiles::TILE_BYTES;
    const uint32_t columns = tile + SharedTile<D>::columns_first(lane),
                   passing = tile + SharedTile<D>::rows_first(lane);
    const float *lse = statistics + stage * 2 * QUERIES, *delta = lse + QUERIES;
    constexpr int SLICE = Tiles::SLICE, SLICE_BYTES = Tiles::SLICE_BYTES;
    // Rows past the last query are zero throughout and add nothing.
    if (place.all_see(position, QUERIES, key, Tiles::WARP_ROWS)) {
#pragma unroll
      for (int i = 0; i < QUERIES / SLICE; ++i) {
        Slice<Tiles> slice;
        start_slice(slice, own, delta + i * SLICE, columns, i * SLICE_BYTES, lane);
        finish_slice(slice, lse + i * SLICE, factor, sums, passing, i * SLICE_BYTES, lane);
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < QUERIES / SLICE; ++i) {
        const int first_position = position + i * SLICE;
        if (place.none_sees(first_position, SLICE, key, Tiles::WARP_ROWS)) continue;
        Slice<Tiles> slice;
        start_slice(slice, own, delta + i * SLICE, columns, i * SLICE_BYTES, lane);
        keep_columns(
            slice.score,
            [&](int row, int& from, int& to) { place.seeing(key + row, first_position, from, to); }, lane);
        finish_slice(slice, lse + i * SLICE, factor, sums, passing, i * SLICE_BYTES, lane);
      }
    }
  }

  __syncthreads();  // the tiles' memory is free
  if (idle) return;
  float* const staging = reinterpret_cast<float*>(memory + warp * STAGING_BYTES<MT>);
  if (p.dk != nullptr) {
    scale_sums(sums.dk, static_cast<float>(s.scale));
    write_rows<D, MT>(sums.dk, staging, p.dk + (k_row + own_first) * p.dk_stride + kv_column, p.dk_stride,
                      own_rows, head_dim, p.accumulate_dk, lane);
  }
  if (p.dv != nullptr) {
    write_rows<D, MT>(sums.dv, staging, p.dv + (k_row + own_first) * p.dv_stride + kv_column, p.dv_stride,
                      own_rows, head_dim, p.accumulate_dv, lane);
  }
}

template <class Tiles>
void launch(const SoftmaxAttentionBackward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(s.sequences * s.kv_heads, divide_up(s.longest_k, Tiles::ROWS),
                             s.longest_q * s.head_dim * 4 * s.heads / s.kv_heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(key_gradients<Tiles>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           SHARED_BYTES<Tiles>));
    return true;
  }();
  key_gradients<Tiles><<<order.blocks(), Tiles::THREADS, SHARED_BYTES<Tiles>, p.stream>>>(p, order);
  SLUICE_CHECK_LAUNCH("softmax_attention_key_gradients");
}

}  // namespace

void cuda::key_gradients_on_tensor_cores(const SoftmaxAttentionBackward<bfloat16>& p) {
  if (p.shape.head_dim <= 64) {
    launch<BackwardTiles<64, 2, 4, 64, 2>>(p);
  } else {
    launch<BackwardTiles<128, 1, 8, 64, 1>>(p);
  }
}

}  // namespace sluice::kernels
