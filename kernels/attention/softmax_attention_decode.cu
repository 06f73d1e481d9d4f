// Few queries against many keys, bound by reading the keys. The rows of a tile are the queries of all heads
// that share a kv head, so that keys are read once for all of them. The four warps of a block hold the same
// 16 rows and take turns at tiles of 16 keys, each through a ring of its own: no warp waits for another until
// the end.
#include "core/cuda_check.h"
#include "kernels/attention/attention_paths.h"
#include "kernels/attention/attention_softmax.cuh"
#include "kernels/attention/attention_splits.cuh"
#include "kernels/attention/attention_tiles.cuh"

namespace sluice::kernels {
namespace {

constexpr int WARPS = 4, THREADS = 32 * WARPS, ROWS = 16, KEYS = 16;

template <int D>
struct DecodeTiles {
  static constexpr int STAGES = D <= 128 ? 3 : 2;
  static constexpr int TILE_BYTES = KEYS * D * 2, RING_BYTES = STAGES * 2 * TILE_BYTES;  // of a warp
  static constexpr int QUERY_BYTES = ROWS * D * 2;
  static constexpr int SHARED_BYTES = QUERY_BYTES + WARPS * RING_BYTES;
  static constexpr int PITCH = D + 4;  // of the sums that warps leave for each other, in floats
  static_assert(WARPS * ROWS * (PITCH + 2) * 4 <= SHARED_BYTES);
};

// What the warps leave for each other: sums [WARPS, ROWS, PITCH], logarithms [WARPS, ROWS].
template <int D>
__device__ __forceinline__ void leave(float* sums, float* logarithms, const float (&o)[1][D / 8][4],
                                      const OnlineSoftmax<1>& softmax, int warp, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp * ROWS + half * 8 + lane / 4;
    float* at = sums + row * DecodeTiles<D>::PITCH + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      *reinterpret_cast<float2*>(at + n * 8) = make_float2(o[0][n][2 * half], o[0][n][2 * half + 1]);
    }
    if (lane % 4 == 0) logarithms[row] = softmax.logarithm(0, half);
  }
}

// A warp's copy of `rows` of KEYS rows, zeros below them and right of head_dim.
template <int D>
__device__ __forceinline__ void copy_keys(uint32_t tile, const bfloat16* from, int64_t stride, int rows,
                                          int head_dim, int lane) {
  constexpr int CHUNKS = D / 8, STEP = 32 / CHUNKS;  // rows copied at a time
  const int first = lane / CHUNKS, chunk = lane % CHUNKS;
  const int end = chunk * 8 < head_dim ? rows : 0;
  const bfloat16* at = from + first * stride + chunk * 8;
#pragma unroll
  for (int i = 0; i < KEYS; i += STEP) {
    copy_async_16(tile + SharedTile<D>::place(first + i, chunk), at, first + i < end);
    at += STEP * stride;
  }
}

template <int D>
__global__ void __launch_bounds__(THREADS)
    decode(const __grid_constant__ SoftmaxAttentionForward<bfloat16> p,
           const __grid_constant__ AttentionSplits splits, int row_tiles) {
  using Tiles = DecodeTiles<D>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const AttentionShape& s = p.shape;
  const int head_dim = static_cast<int>(s.head_dim), group = static_cast<int>(s.heads / s.kv_heads);
  int64_t block = blockIdx.x;
  const int split = static_cast<int>(block % splits.splits);
  block /= splits.splits;
  const int row_first = static_cast<int>(block % row_tiles) * ROWS;
  block /= row_tiles;
  const int64_t kv_head = block % s.kv_heads, sequence = block / s.kv_heads;
  const AttentionPlace place(s, sequence);
  const int rows = min(ROWS, place.queries * group - row_first);
  if (rows <= 0) return;

  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  // Row r of the tile is query (row_first + r) / group of head kv_head * group + (row_first + r) % group.
  const auto query_of = [&](int row) { return (row_first + row) / group; };
  const auto head_of = [&](int row) { return kv_head * group + (row_first + row) % group; };
  const int lowest = place.shift + query_of(0), highest = place.shift + query_of(rows - 1);  // positions
  const int begin = place.first_key(lowest) + split * splits.keys;
  const int end = min(begin + splits.keys, highest + 1);

  const uint32_t query_tile = shared_address(memory);
  const uint32_t ring = query_tile + Tiles::QUERY_BYTES + warp * Tiles::RING_BYTES;
  const bfloat16* k = p.k + place.k_first * p.k_stride + kv_head * head_dim;
  const bfloat16* v = p.v + place.k_first * p.v_stride + kv_head * head_dim;
  for (int i = thread; i < ROWS * D / 8; i += THREADS) {
    const int row = i / (D / 8), chunk = i % (D / 8);
    const bool valid = row < rows && chunk * 8 < head_dim;
    const int64_t at =
        valid ? (place.q_first + query_of(row)) * p.q_stride + head_of(row) * head_dim + chunk * 8 : 0;
    copy_async_16(query_tile + SharedTile<D>::place(row, chunk), p.q + at, valid);
  }
  commit_copies();
  // The warp's tile number `turn`. Always a group of copies, if of nothing, so that groups can be counted.
  const auto copy_turn = [&](int turn) {
    const int key = begin + (turn * WARPS + warp) * KEYS;
    if (key < end) {
      const uint32_t tile = ring + turn % Tiles::STAGES * 2 * Tiles::TILE_BYTES;
      copy_keys<D>(tile, k + key * p.k_stride, p.k_stride, end - key, head_dim, lane);
      copy_keys<D>(tile + Tiles::TILE_BYTES, v + key * p.v_stride, p.v_stride, end - key, head_dim, lane);
    }
    commit_copies();
  };
  for (int turn = 0; turn < Tiles::STAGES - 1; ++turn) copy_turn(turn);
  wait_for_copies<Tiles::STAGES - 1>();  // the queries, committed first
  __syncthreads();
  uint32_t q[D / 16][1][4];  // where registers suffice
  if constexpr (D <= 128) load_rows<D, 1>(q, query_tile + SharedTile<D>::rows_first(lane));

  const int upper = place.shift + query_of(lane / 4),
            lower = place.shift + query_of(lane / 4 + 8);  // positions
  float o[1][D / 8][4];
  fill(o, 0.f);
  OnlineSoftmax<1> softmax(static_cast<float>(s.scale) * kLog2E);
  for (int turn = 0;; ++turn) {
    const int key = begin + (turn * WARPS + warp) * KEYS;
    if (key >= end) break;
    wait_for_copies<Tiles::STAGES - 2>();
    __syncwarp();  // this tile is there, and no lane reads the one before any more
    copy_turn(turn + Tiles::STAGES - 1);
    const uint32_t tile = ring + turn % Tiles::STAGES * 2 * Tiles::TILE_BYTES;
    float score[1][2][4];
    fill(score, 0.f);
    if constexpr (D <= 128) {
      multiply_rows<D, 1, 1>(score, q, tile + SharedTile<D>::columns_first(lane), 0);
    } else {
      multiply_rows<D, 1, 1>(score, query_tile + SharedTile<D>::rows_first(lane), 0,
                             tile + SharedTile<D>::columns_first(lane), 0);
    }
    if (!place.all_see(lowest, highest - lowest + 1, key, KEYS)) {
      keep_columns(
          score,
          [&](int row, int& from, int& to) { place.seen_keys(row < 8 ? upper : lower, key, from, to); },
          lane);
    }
    softmax.absorb(score, o);
    uint32_t a[1][4];
    pack_operand(a[0], score[0][0], score[0][1]);
    add_product<D, 1>(o, a, tile + SharedTile<D>::rows_first(lane), Tiles::TILE_BYTES);
  }

  softmax.finish(o);
  wait_for_copies<0>();
  __syncthreads();  // the rings' memory is free
  float* const sums = reinterpret_cast<float*>(memory);
  float* const logarithms = sums + WARPS * ROWS * Tiles::PITCH;
  leave<D>(sums, logarithms, o, softmax, warp, lane);
  __syncthreads();

  for (int row = warp; row < rows; row += WARPS) {
    float most = -INFINITY, total = 0.f, weight[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; ++w) most = fmaxf(most, logarithms[w * ROWS + row]);
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
      // No key of this row: its sums are 0 / 0.
      const float logarithm = logarithms[w * ROWS + row];
      weight[w] = logarithm == -INFINITY ? 0.f : exp2f(logarithm - most);
      total += weight[w];
    }
    const float inverse = total == 0.f ? 0.f : 1.f / total;
    const int64_t q_row = place.q_first + query_of(row), head = head_of(row);
    const int64_t slot = split * splits.slots + AttentionSplits::slot(s, sequence, query_of(row), head);
    for (int column = lane; column < head_dim; column += 32) {
      float sum = 0.f;
#pragma unroll
      for (int w = 0; w < WARPS; ++w) {
        if (weight[w] != 0.f) sum = fmaf(weight[w], sums[(w * ROWS + row) * Tiles::PITCH + column], sum);
      }
      sum *= inverse;
      if (splits.splits > 1) {
        splits.sums[slot * head_dim + column] = sum;
      } else {
        p.o[q_row * p.o_stride + head * head_dim + column] = from_float<bfloat16>(sum);
      }
    }
    if (lane != 0) continue;
    const float logarithm = most + log2f(total);
    if (splits.splits > 1) {
      splits.logarithms[slot] = total == 0.f ? -INFINITY : logarithm;
    } else if (p.lse != nullptr) {
      p.lse[q_row * s.heads + head] = logarithm * kLn2;
    }
  }
}

template <int D>
void launch(const SoftmaxAttentionForward<bfloat16>& p, const AttentionSplits& splits) {
  constexpr int SHARED_BYTES = DecodeTiles<D>::SHARED_BYTES;
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(
        cudaFuncSetAttribute(decode<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES));
    return true;
  }();
  const AttentionShape& s = p.shape;
  const int64_t row_tiles = divide_up(s.longest_q * (s.heads / s.kv_heads), ROWS);
  const int64_t blocks = s.sequences * s.kv_heads * row_tiles * splits.splits;
  SLUICE_CHECK(blocks < (int64_t{1} << 31), kUsage, "softmax_attention: {} blocks are more than a grid has",
               blocks);
  decode<D><<<static_cast<unsigned>(blocks), THREADS, SHARED_BYTES, p.stream>>>(p, splits,
                                                                                static_cast<int>(row_tiles));
  SLUICE_CHECK_LAUNCH("softmax_attention_decode");
}

}  // namespace

void cuda::decode_on_tensor_cores(const SoftmaxAttentionForward<bfloat16>& p) {
  AttentionSplits splits = splits_on_tensor_cores(p.shape);
  splits.place_in(p.workspace, p.shape);
  if (p.shape.head_dim <= 64) {
    launch<64>(p, splits);
  } else if (p.shape.head_dim <= 128) {
    launch<128>(p, splits);
  } else {
    launch<256>(p, splits);
  }
  if (splits.splits > 1) combine_splits(p, splits);
}

}  // namespace sluice::kernels
