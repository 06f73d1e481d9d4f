// dq on tensor cores, and delta on the way to it: forward's way of walking. A warp owns 16 * MT queries; keys
// and values pass, 16 at a time: scores S = Q K^T and dP = dO V^T, from them dS in registers, dQ += dS K.
#include "core/cuda_check.h"
#include "kernels/attention/attention_gradients.cuh"
#include "kernels/attention/attention_paths.h"

namespace sluice::kernels {
namespace {

// What a warp knows of its rows.
template <class Tiles>
struct OwnStatistics {
  float lse[Tiles::MT][2];  // base 2
  float delta[Tiles::MT][2];
  float factor;  // makes scores exponents of 2
};

template <class Tiles>
__device__ __forceinline__ void start_slice(Slice<Tiles>& slice, const OwnRows<Tiles>& own,
                                            const OwnStatistics<Tiles>& statistics, uint32_t columns,
                                            int bytes) {
#pragma unroll
  for (int mt = 0; mt < Tiles::MT; ++mt) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      slice.gradient[mt][e / 4][e % 4] = -statistics.delta[mt][e % 4 / 2];
    }
  }
  slice.multiply(own, columns, bytes);
}

template <class Tiles>
__device__ __forceinline__ void finish_slice(Slice<Tiles>& slice, const OwnStatistics<Tiles>& statistics,
                                             float (&dq)[Tiles::MT][Tiles::D / 8][4], uint32_t rows,
                                             int bytes) {
#pragma unroll
  for (int mt = 0; mt < Tiles::MT; ++mt) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      slice.gradient[mt][e / 4][e % 4] *= exp2_approximate(
          fmaf(slice.score[mt][e / 4][e % 4], statistics.factor, -statistics.lse[mt][e % 4 / 2]));
    }
  }
  add_passing_rows<Tiles>(dq, slice.gradient, rows, bytes);
}

// delta of a warp's rows, which it passes on to the keys' gradients: rowsum(dO . o), o from memory. Each
// row's chunks are shared by LANES lanes.
template <class Tiles>
class OwnDelta {
 public:
  // Starts to read o: the rows at `o`, of which the first `rows` exist.
  __device__ __forceinline__ OwnDelta(const bfloat16* o, int64_t stride, int rows, int head_dim, int lane) {
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const int row = lane % Tiles::WARP_ROWS, chunk = i * LANES + lane / Tiles::WARP_ROWS;
      chunks_[i] = row < rows && chunk * 8 < head_dim ? Pack<bfloat16, 8>::load(o + row * stride + chunk * 8)
                                                      : Pack<bfloat16, 8>{};
    }
  }

  // With the rows of dO, a shared tile: lane l has delta of row l % WARP_ROWS.
  __device__ __forceinline__ float sum(const unsigned char* d_o, int lane) const {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < CHUNKS; ++i) {
      const uint32_t place =
          SharedTile<Tiles::D>::place(lane % Tiles::WARP_ROWS, i * LANES + lane / Tiles::WARP_ROWS);
      const auto d = *reinterpret_cast<const Pack<bfloat16, 8>*>(d_o + place);
#pragma unroll
      for (int e = 0; e < 8; ++e) sum = fmaf(chunks_[i][e], d[e], sum);
    }
    if constexpr (LANES == 2) sum += __shfl_xor_sync(~0u, sum, Tiles::WARP_ROWS);
    return sum;
  }

 private:
  static constexpr int LANES = 32 / Tiles::WARP_ROWS, CHUNKS = Tiles::D / 8 / LANES;
  static_assert(LANES == 1 || LANES == 2);
  Pack<bfloat16, 8> chunks_[CHUNKS];
};

template <class Tiles>
__global__ void __launch_bounds__(Tiles::THREADS, Tiles::BLOCKS)
    query_gradient(const __grid_constant__ SoftmaxAttentionBackward<bfloat16> p,
                   const __grid_constant__ AttentionOrder order) {
  constexpr int D = Tiles::D, MT = Tiles::MT, KEYS = Tiles::PASSING, THREADS = Tiles::THREADS;
  extern __shared__ __align__(1024) unsigned char memory[];
  const AttentionShape& s = p.shape;
  int pair, rank;
  order.locate(blockIdx.x, pair, rank);
  const int heads = static_cast<int>(s.heads), head = pair % heads, head_dim = static_cast<int>(s.head_dim);
  const AttentionPlace place(s, pair / heads);
  const int first = (static_cast<int>(order.tiles) - 1 - rank) * Tiles::ROWS;
  if (first >= place.queries) return;

  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int rows = min(Tiles::ROWS, place.queries - first);
  const int end = place.shift + first + rows;  // one past the last key that is seen
  const int begin = place.first_key(place.shift + first) / KEYS * KEYS;
  const int64_t q_row = place.q_first + first;
  const int64_t column = static_cast<int64_t>(head) * head_dim;
  const int64_t kv_column = head / (s.heads / s.kv_heads) * head_dim;
  const uint32_t query_tile = shared_address(memory), ring = query_tile + 2 * Tiles::OWN_BYTES;
  const int64_t k_row = place.k_first + begin;
  RowCopier<D, KEYS, THREADS> keys(p.k + k_row * p.k_stride + kv_column, p.k_stride, head_dim, thread);
  RowCopier<D, KEYS, THREADS> values(p.v + k_row * p.v_stride + kv_column, p.v_stride, head_dim, thread);
  const auto copy_tile = [&](int key, int stage) {
    const uint32_t tile = ring + stage * 2 * Tiles::TILE_BYTES;
    keys.copy(tile, end - key);
    values.copy(tile + Tiles::TILE_BYTES, end - key);
    commit_copies();
  };
  RowCopier<D, Tiles::ROWS, THREADS>(p.q + q_row * p.q_stride + column, p.q_stride, head_dim, thread)
      .copy(query_tile, rows);
  RowCopier<D, Tiles::ROWS, THREADS>(p.d_o + q_row * p.d_o_stride + column, p.d_o_stride, head_dim, thread)
      .copy(query_tile + Tiles::OWN_BYTES, rows);
  copy_tile(begin, 0);

  const int own_first = warp * Tiles::WARP_ROWS, own_rows = min(Tiles::WARP_ROWS, rows - own_first);
  const bool idle = own_rows <= 0;                       // a warp past the last row
  const int position = place.shift + first + own_first;  // of the warp's first row
  const OwnDelta<Tiles> own_delta(p.o + (q_row + own_first) * p.o_stride + column, p.o_stride, own_rows,
                                  head_dim, lane);
  wait_for_copies<0>();
  __syncthreads();
  const float delta = own_delta.sum(memory + Tiles::OWN_BYTES + own_first * Tiles::PITCH, lane);
  if (lane < own_rows) p.delta[(q_row + own_first + lane) * s.heads + head] = delta;
  OwnStatistics<Tiles> statistics;
  statistics.factor = static_cast<float>(s.scale) * kLog2E;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = mt * 16 + half * 8 + lane / 4;
      const int64_t at = (q_row + own_first + row) * s.heads + head;
      statistics.lse[mt][half] = row < own_rows ? p.lse[at] * kLog2E : 0.f;
      statistics.delta[mt][half] = __shfl_sync(~0u, delta, row);
    }
  }
  const OwnRows<Tiles> own(query_tile + own_first * Tiles::PITCH + SharedTile<D>::rows_first(lane));
  float dq[MT][D / 8][4];
  fill(dq, 0.f);

  for (int key = begin, stage = 0; key < end; key += KEYS, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is there, and nobody reads the other any more
    if (key + KEYS < end) copy_tile(key + KEYS, stage ^ 1);
    if (idle) continue;
    const uint32_t tile = ring + stage * 2 * Tiles::TILE_BYTES;
    const uint32_t columns = tile + SharedTile<D>::columns_first(lane),
                   passing = tile + SharedTile<D>::rows_first(lane);
    if (place.all_see(position, Tiles::WARP_ROWS, key, KEYS)) {
#pragma unroll
      for (int i = 0; i < KEYS / Tiles::SLICE; ++i) {
        Slice<Tiles> slice;
        start_slice(slice, own, statistics, columns, i * Tiles::SLICE_BYTES);
        finish_slice(slice, statistics, dq, passing, i * Tiles::SLICE_BYTES);
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < KEYS / Tiles::SLICE; ++i) {
        const int slice_key = key + i * Tiles::SLICE;
        if (place.none_sees(position, Tiles::WARP_ROWS, slice_key, Tiles::SLICE)) continue;
        Slice<Tiles> slice;
        start_slice(slice, own, statistics, columns, i * Tiles::SLICE_BYTES);
        keep_columns(
            slice.score,
            [&](int row, int& from, int& to) { place.seen_keys(position + row, slice_key, from, to); }, lane);
        finish_slice(slice, statistics, dq, passing, i * Tiles::SLICE_BYTES);
      }
    }
  }

  __syncthreads();  // the tiles' memory is free
  if (idle) return;
  scale_sums(dq, static_cast<float>(s.scale));
  write_rows<D, MT>(dq, reinterpret_cast<float*>(memory + warp * STAGING_BYTES<MT>),
                    p.dq + (q_row + own_first) * p.dq_stride + column, p.dq_stride, own_rows, head_dim,
                    p.accumulate_dq, lane);
}

template <class Tiles>
void launch(const SoftmaxAttentionBackward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(s.sequences * s.heads, divide_up(s.longest_q, Tiles::ROWS),
                             s.longest_k * s.head_dim * 4 * s.kv_heads / s.heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(query_gradient<Tiles>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           Tiles::TILES_BYTES));
    return true;
  }();
  query_gradient<Tiles><<<order.blocks(), Tiles::THREADS, Tiles::TILES_BYTES, p.stream>>>(p, order);
  SLUICE_CHECK_LAUNCH("softmax_attention_query_gradient");
}

}  // namespace

void cuda::query_gradient_on_tensor_cores(const SoftmaxAttentionBackward<bfloat16>& p) {
  if (p.shape.head_dim <= 64) {
    launch<BackwardTiles<64, 2, 4, 64, 2>>(p);
  } else {
    launch<BackwardTiles<128, 1, 8, 64, 1>>(p);
  }
}

}  // namespace sluice::kernels
