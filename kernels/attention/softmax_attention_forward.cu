// Forward on tensor cores. A block owns 16 * MT * WARPS queries of one head, a warp 16 * MT of them: their
// scores, probabilities and sums stay in its registers, while keys and values pass through shared memory in
// tiles of KEYS, one being copied while another is used.
#include "core/cuda_check.h"
#include "kernels/attention/attention_paths.h"
#include "kernels/attention/attention_softmax.cuh"
#include "kernels/attention/attention_tiles.cuh"

namespace sluice::kernels {
namespace {

template <int D_, int MT_, int WARPS_, int KEYS_, int BLOCKS_, bool KEEP_QUERIES_>
struct ForwardTiles {
  static constexpr int D = D_, MT = MT_, WARPS = WARPS_, KEYS = KEYS_;
  static constexpr int BLOCKS = BLOCKS_;               // on a multiprocessor
  static constexpr bool KEEP_QUERIES = KEEP_QUERIES_;  // in registers
  static constexpr int WARP_ROWS = 16 * MT, ROWS = WARP_ROWS * WARPS, THREADS = 32 * WARPS;
  static constexpr int QUERY_BYTES = ROWS * D * 2, TILE_BYTES = KEYS * D * 2;
  static constexpr int SHARED_BYTES = std::max(QUERY_BYTES + 4 * TILE_BYTES, WARPS* STAGING_BYTES<MT>);
};

template <class Tiles>
__global__ void __launch_bounds__(Tiles::THREADS, Tiles::BLOCKS)
    attend(const __grid_constant__ SoftmaxAttentionForward<bfloat16> p,
           const __grid_constant__ AttentionOrder order) {
  constexpr int D = Tiles::D, MT = Tiles::MT, KEYS = Tiles::KEYS, THREADS = Tiles::THREADS;
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
  const uint32_t query_tile = shared_address(memory), ring = query_tile + Tiles::QUERY_BYTES;
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
  copy_tile(begin, 0);

  const uint32_t own_queries =
      query_tile + warp * Tiles::WARP_ROWS * SharedTile<D>::PITCH + SharedTile<D>::rows_first(lane);
  uint32_t q[D / 16][MT][4];
  if constexpr (Tiles::KEEP_QUERIES) {
    wait_for_copies<0>();
    __syncthreads();
    load_rows<D, MT>(q, own_queries);
  }
  const int own_first = warp * Tiles::WARP_ROWS, own_rows = min(Tiles::WARP_ROWS, rows - own_first);
  const bool idle = own_rows <= 0;                       // a warp past the last row
  const int position = place.shift + first + own_first;  // of the warp's first row
  float o[MT][D / 8][4];
  fill(o, 0.f);
  OnlineSoftmax<MT> softmax(static_cast<float>(s.scale) * kLog2E);

  for (int key = begin, stage = 0; key < end; key += KEYS, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is there, and nobody reads the other any more
    if (key + KEYS < end) copy_tile(key + KEYS, stage ^ 1);
    if (idle || place.none_sees(position, Tiles::WARP_ROWS, key, KEYS)) continue;

    const uint32_t tile = ring + stage * 2 * Tiles::TILE_BYTES;
    const uint32_t key_tile = tile + SharedTile<D>::columns_first(lane);
    const uint32_t value_tile = tile + Tiles::TILE_BYTES + SharedTile<D>::rows_first(lane);
    float score[MT][KEYS / 8][4];
    fill(score, 0.f);
    if constexpr (Tiles::KEEP_QUERIES) {
      multiply_rows<D, MT, KEYS / 16>(score, q, key_tile, 0);
    } else {
      multiply_rows<D, MT, KEYS / 16>(score, own_queries, 0, key_tile, 0);
    }
    if (!place.all_see(position, Tiles::WARP_ROWS, key, KEYS)) {
      keep_columns(
          score, [&](int row, int& from, int& to) { place.seen_keys(position + row, key, from, to); }, lane);
    }
    softmax.absorb(score, o);
#pragma unroll
    for (int step = 0; step < KEYS / 16; ++step) {
      uint32_t a[MT][4];
#pragma unroll
      for (int mt = 0; mt < MT; ++mt) pack_operand(a[mt], score[mt][2 * step], score[mt][2 * step + 1]);
      add_product<D, MT>(o, a, value_tile, step * 16 * SharedTile<D>::PITCH);
    }
  }

  softmax.finish(o);
  __syncthreads();  // the tiles' memory is free
  if (idle) return;
  write_rows<D, MT>(o, reinterpret_cast<float*>(memory + warp * STAGING_BYTES<MT>),
                    p.o + (q_row + own_first) * p.o_stride + column, p.o_stride, own_rows, head_dim, false,
                    lane);
  if (p.lse == nullptr || lane % 4 != 0) return;
#pragma unroll
  for (int mt = 0; mt < MT; ++mt) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = mt * 16 + half * 8 + lane / 4;
      if (row < own_rows) {
        p.lse[(q_row + own_first + row) * s.heads + head] = softmax.logarithm(mt, half) * kLn2;
      }
    }
  }
}

template <class Tiles>
void launch(const SoftmaxAttentionForward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(s.sequences * s.heads, divide_up(s.longest_q, Tiles::ROWS),
                             s.longest_k * s.head_dim * 4 * s.kv_heads / s.heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(attend<Tiles>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           Tiles::SHARED_BYTES));
    return true;
  }();
  attend<Tiles><<<order.blocks(), Tiles::THREADS, Tiles::SHARED_BYTES, p.stream>>>(p, order);
  SLUICE_CHECK_LAUNCH("softmax_attention_forward");
}

}  // namespace

void cuda::attend_on_tensor_cores(const SoftmaxAttentionForward<bfloat16>& p) {
  if (p.shape.head_dim <= 64) {
    launch<ForwardTiles<64, 2, 4, 64, 2, true>>(p);
  } else if (p.shape.head_dim <= 128) {
    launch<ForwardTiles<128, 2, 4, 32, 2, false>>(p);
  } else {
    launch<ForwardTiles<256, 1, 8, 32, 1, false>>(p);
  }
}

}  // namespace sluice::kernels
