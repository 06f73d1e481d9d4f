// dq, dk and dv on sm_90a in one pass. A group of four warps owns 64 keys, two groups 128 in a row; the
// queries of all heads that use them pass, the last first: S^T = K Q^T and dP^T = V dO^T, from them P^T and
// dS^T in registers, dV += P^T dO and dK += dS^T Q. Both groups' dS^T meet in shared memory, where each group
// takes half of the columns of dQ = dS K. Further warps add these to dq in global memory, in the order of the
// keys.
#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/attention/attention_hopper.h"
#include "kernels/attention/softmax_attention_hopper_backward.cuh"
#include "kernels/common/multiprocessors.h"

namespace sluice::kernels {
namespace {

// c = a b: c [64, D / 2], a [128, 64] contracted along its rows; b half of the columns of the groups' own
// rows, contracted along these.
template <int D>
__device__ __forceinline__ void multiply_along_rows(float (&c)[D / 4], uint32_t a, uint32_t b) {
  const uint32_t a_word = tile_along_rows<QUERIES, ROWS>(a), b_word = tile_along_rows<64, GROUP_ROWS>(b);
#pragma unroll
  for (int k = 0; k < ROWS / 16; ++k) {
    wgmma<1>(c, descriptor(a_word + k * (2048 / 16)),
             descriptor(b_word + (k / 4 * PanelTile<D, GROUP_ROWS>::BYTES + k % 4 * 2048) / 16), k > 0);
  }
}

template <class Shape>
__global__ void __launch_bounds__(THREADS, 1)
    gradients(const __grid_constant__ SoftmaxAttentionBackward<bfloat16> p,
              const __grid_constant__ AttentionOrder order, const __grid_constant__ PassMaps maps,
              const __grid_constant__ QuerySums query_sums) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int D = Shape::D, STAGES = Shape::STAGES, WARPS = GROUPS * GROUP_WARPS;
  constexpr int GROUP_BYTES = Shape::GROUP_BYTES, TILE_BYTES = Shape::TILE_BYTES;
  using Place = RingPlace<STAGES>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t own_tiles = shared_address(memory), stages = own_tiles + Shape::STAGE_PLACE;
  const uint32_t scores = own_tiles + Shape::SCORE_PLACE, sums = own_tiles + Shape::SUM_PLACE;
  const uint32_t statistics = own_tiles + Shape::STATISTIC_PLACE;
  const RingBarriers<STAGES> ring{own_tiles + Shape::BARRIER_PLACE};
  const RingBarriers<Shape::OWN_STAGES> own_ring{ring.first + ring.BYTES};  // keys, and the item
  const RingBarriers<Shape::OWN_STAGES> value_ring{own_ring.first + own_ring.BYTES};
  const RingBarriers<1> score_ring{value_ring.first + value_ring.BYTES};
  const RingBarriers<Shape::ADDERS> sum_ring{score_ring.first + score_ring.BYTES};
  PassTask* const given = reinterpret_cast<PassTask*>(memory + Shape::TASK_PLACE);
  if (threadIdx.x == 0) {
    ring.init(1, WARPS, 32), own_ring.init(1, WARPS, 0, Shape::ADDERS), value_ring.init(1, WARPS);
    score_ring.init(WARPS, WARPS), sum_ring.init(WARPS, 0, 0, 1);
    fence_barrier_init();
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / GROUP_THREADS, 0) - 1;
  const int heads_of_key = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  Place at;
  RingPlace<Shape::OWN_STAGES> own;
  RingPlace<Shape::TASKS> item_place;
  RingPlace<Shape::ADDERS> sum_place;

  if (group < 0) {
    give_back_registers<COPY_REGISTERS<GROUPS>>();
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
    if (warp == 0) {
      const MappedRows own_keys[1] = {{&maps.k, p.k, p.k_stride}},
                       own_values[1] = {{&maps.v, p.v, p.v_stride}};
      const MappedRows passing[2] = {{&maps.q, p.q, p.q_stride}, {&maps.d_o, p.d_o, p.d_o_stride}};
      const auto draw = [&] { return draw_item(static_cast<unsigned*>(p.workspace), lane); };
      for (unsigned number = draw(); number < order.blocks(); number = draw()) {
        const KeyItem item(p, order, number, ROWS, QUERIES);
        if (!item.exists()) continue;
        const auto copy_own = [&] {
          const uint32_t keys = own_tiles + own.stage * Shape::OWN_BYTES, values = keys + Shape::KEY_BYTES;
          const int64_t row = item.place.k_first + item.first,
                        column = static_cast<int64_t>(item.kv_head) * D;
          value_ring.wait_empty(own);
          copy_own_rows<D, GROUPS, 1>(values, own_values, row, column, item.rows, value_ring.full(own), lane);
          own_ring.wait_empty(own);
          if (lane == 0) {
            const int sequence = pair_of(order, number) / static_cast<int>(p.shape.kv_heads);
            given[item_place.stage].keys = item.task();
            given[item_place.stage].first_tile =
                sequence * query_sums.tiles + (item.begin - item.place.shift) / QUERIES;
          }
          copy_own_rows<D, GROUPS, 1>(keys, own_keys, row, column, item.rows, own_ring.full(own), lane);
          own.advance(), item_place.advance();
        };
        // The first tiles' places are free before the last item's rows are read for the last time.
        int ahead = min(STAGES - 1, heads_of_key * item.tiles);
        if (ahead == 0) copy_own();
        for (int head = item.kv_head * heads_of_key; head < (item.kv_head + 1) * heads_of_key; ++head) {
          for (int tile = item.tiles - 1; tile >= 0; --tile, at.advance()) {
            const int query = item.begin + tile * QUERIES - item.place.shift;
            const int left = item.place.queries - query;
            const int64_t row = item.place.q_first + query;
            ring.wait_empty(at);
#pragma unroll
            for (int i = 0; i < QUERIES / 32; ++i) {
              const int r = i * 32 + lane;
              const int64_t from = r < left ? (row + r) * p.shape.heads + head : 0;
              const uint32_t to = statistics + at.stage * Shape::STATISTIC_BYTES + 4 * r;
              copy_float(to, p.lse + from, r < left);
              copy_float(to + 4 * QUERIES, p.delta + from, r < left);
            }
            arrive_after_copies(ring.full(at));
            copy_tiles<D, QUERIES, 2>(stages + at.stage * Shape::STAGE_BYTES, passing, row,
                                      static_cast<int64_t>(head) * D, left, ring.full(at), lane);
            if (--ahead == 0) copy_own();
          }
        }
      }
      own_ring.wait_empty(own);
      if (lane == 0) {
        given[item_place.stage].keys.rows = 0;
        barrier_arrive(own_ring.full(own));
      }
      barrier_arrive_beside(own_ring.full(own), lane);
    } else if (warp <= Shape::ADDERS && lane == 0) {
      // Blocks add to a tile of dq in the order of their keys: one sum, whoever is first. Those before were
      // drawn before, by blocks that run, and are ahead at every tile, so that one rarely waits.
      for (;; own.advance(), item_place.advance()) {
        own_ring.wait_full(own);
        const PassTask task = given[item_place.stage];
        if (task.keys.rows == 0) break;
        barrier_arrive(own_ring.empty(own));
        const AttentionPlace place(task.keys.keys, task.keys.window);
        const int heads = static_cast<int>(p.shape.heads);
#pragma unroll 1
        for (int head = 0; head < heads_of_key; ++head) {
          int which =
              (task.first_tile + task.keys.tiles - 1) * heads + task.keys.kv_head * heads_of_key + head;
          int position = task.keys.begin + (task.keys.tiles - 1) * QUERIES;
#pragma unroll 1
          for (; position >= task.keys.begin; position -= QUERIES, which -= heads, sum_place.advance()) {
            const unsigned turn = (task.keys.key - place.first_key(position) / ROWS * ROWS) / ROWS;
            if (sum_place.stage != warp - 1) continue;
            sum_ring.wait_full(sum_place);
            const uint32_t from = sums + sum_place.stage * Shape::SUM_BYTES;
            float* const to = query_sums.sums + static_cast<int64_t>(which) * Shape::SUMS;
            if (turn == 0) {
              store_bulk(to, from, Shape::SUM_BYTES);
            } else {
              while (load_turn(query_sums.turns + which) != turn) {
              }
              fence_bulk();
              add_bulk(to, from, Shape::SUM_BYTES);
            }
            commit_bulk();
            wait_for_bulk_reads();
            barrier_arrive(sum_ring.empty(sum_place));
            wait_for_bulk();
            fence_bulk();
            pass_turn(query_sums.turns + which, turn + 1);
          }
        }
      }
    }
    return;
  }

  take_registers<MULTIPLY_REGISTERS<GROUPS>>();
  const int warp_row = static_cast<int>(threadIdx.x) / 32 % GROUP_WARPS * 16;
  const float scale = static_cast<float>(p.shape.scale), factor = scale * kLog2E;
  const uint32_t my_sums = sums + (static_cast<int>(threadIdx.x) - GROUP_THREADS) * 16;
  RingPlace<1> score_place;
  for (;; own.advance(), item_place.advance()) {
    own_ring.wait_full(own);
    const KeyTask task = given[item_place.stage].keys;
    if (task.rows == 0) break;
    const AttentionPlace place(task.keys, task.window);
    const int key = task.key + group * GROUP_ROWS;  // position of the group's first row
    const uint32_t all_keys = own_tiles + own.stage * Shape::OWN_BYTES;
    const uint32_t keys = all_keys + group * GROUP_BYTES, values = keys + Shape::KEY_BYTES;
    // The columns of dQ that are this group's.
    const uint32_t half_keys = all_keys + group * (D == 64 ? 64 : PanelTile<D, GROUP_ROWS>::PANEL_BYTES);

    float dk[D / 2], dv[D / 2];
#pragma unroll
    for (int i = 0; i < D / 2; ++i) dk[i] = dv[i] = 0.f;
    uint32_t own_keys[D / 16][4], own_values[D / 16][4], key_factors[D / 16][4], value_factors[D / 16][4];
    if constexpr (Shape::KEEPS) {
      load_factors<D>(own_keys, keys, warp_row, lane);
      value_ring.wait_full(own);
      load_factors<D>(own_values, values, warp_row, lane);
      value_ring.release(own, lane);
      copy_factors(key_factors, own_keys, 0);
    }
    Place before = at;  // the tile that dV and dK are still being multiplied by
    const int tiles = heads_of_key * task.tiles;
    for (int left = tiles, tile = task.tiles - 1; left > 0; --left, at.advance()) {
      float score[QUERIES / 2], gradient[QUERIES / 2];
      const uint32_t queries = stages + at.stage * Shape::STAGE_BYTES, gradients = queries + TILE_BYTES;
      const float* const lse = reinterpret_cast<const float*>(memory + Shape::STATISTIC_PLACE +
                                                              at.stage * Shape::STATISTIC_BYTES) +
                               lane % 4 * 2;
      ring.wait_full(at);
      wgmma_fence();
      if constexpr (Shape::KEEPS) {
        multiply_tiles<D, QUERIES>(score, key_factors, queries);
      } else {
        multiply_tiles<D, QUERIES>(score, keys, queries);
      }
      wgmma_commit();
      // The factors of the tile before have been read: dP takes their registers.
      wgmma_wait<1>();
      if (left < tiles) ring.release(before, lane);
      if constexpr (Shape::KEEPS) {
        copy_factors(value_factors, own_values, static_cast<uint32_t>(task.rows + left) >> 31);
        wgmma_fence();
        multiply_tiles<D, QUERIES>(gradient, value_factors, gradients);
      } else {
        if (left == tiles) value_ring.wait_full(own);
        wgmma_fence();
        multiply_tiles<D, QUERIES>(gradient, values, gradients);
      }
      wgmma_commit();
      wgmma_wait<1>();
      pin_registers(score);
      const int position = task.begin + tile * QUERIES;
      tile = tile == 0 ? task.tiles - 1 : tile - 1;
      if (!place.all_see(position, QUERIES, key, GROUP_ROWS)) {
        keep_columns(
            score, [&](int row, int& first, int& last) { place.seeing(key + row, position, first, last); },
            warp_row, lane);
      }
#pragma unroll
      for (int t = 0; t < QUERIES / 8; ++t) {
        const float2 l = *reinterpret_cast<const float2*>(lse + 8 * t);
        const float offset[2] = {l.x * kLog2E, l.y * kLog2E};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          score[4 * t + e] = exp2_approximate(fmaf(score[4 * t + e], factor, -offset[e % 2]));
        }
      }
      uint32_t factors[QUERIES / 16][4];
      pack_factors(factors, score);
      wgmma_fence();
      add_product<D, QUERIES>(dv, factors, gradients);
      wgmma_commit();
      wgmma_wait<1>();
      pin_registers(gradient);
      if (!Shape::KEEPS && left == 1) value_ring.release(own, lane);
      score_gradients_of_keys(score, gradient, lse + QUERIES);
      uint32_t gradient_factors[QUERIES / 16][4];
      pack_factors(gradient_factors, score);
      score_ring.wait_empty(score_place);
      store_factors<QUERIES>(scores + group * Shape::SCORE_BYTES, gradient_factors, warp_row, lane);
      fence_shared_for_tensor_cores();
      barrier_arrive_of_warp(score_ring.full(score_place), lane);
      if constexpr (Shape::KEEPS)
        copy_factors(key_factors, own_keys, static_cast<uint32_t>(task.rows + left) >> 31);
      score_ring.wait_full(score_place);
      float dq[D / 4];
      wgmma_fence();
      multiply_along_rows<D>(dq, scores, half_keys);
      wgmma_commit();
      wgmma_fence();
      add_product<D, QUERIES>(dk, gradient_factors, queries);
      wgmma_commit();
      // dQ is handed over while dK is multiplied.
      sum_ring.wait_empty(sum_place);
      wgmma_wait<1>();
      pin_registers(dq);
      if (left == 1) own_ring.release(own, lane);
      score_ring.release(score_place, lane);
      score_place.advance();
#pragma unroll
      for (int i = 0; i < D / 16; ++i) {
        store_shared(my_sums + sum_place.stage * Shape::SUM_BYTES + i * GROUPS * GROUP_THREADS * 16,
                     dq[4 * i], dq[4 * i + 1], dq[4 * i + 2], dq[4 * i + 3]);
      }
      fence_shared_for_tensor_cores();
      barrier_arrive_of_warp(sum_ring.full(sum_place), lane);
      sum_place.advance();
      before = at;
    }
    wgmma_wait<0>();
    pin_registers(dk);
    pin_registers(dv);
    if (tiles > 0) {
      ring.release(before, lane);
    } else {
      if constexpr (!Shape::KEEPS) value_ring.wait_full(own), value_ring.release(own, lane);
      own_ring.release(own, lane);
    }
    // Read again rather than kept in registers.
    const KeyTask done = given[item_place.stage].keys;
    const int64_t row = done.row + group * GROUP_ROWS, column = static_cast<int64_t>(done.kv_head) * D;
    const int rows = done.rows - group * GROUP_ROWS;
    if (p.dk != nullptr) {
      const float scales[2] = {scale, scale};
      store_rows<D>(dk, scales, p.dk + row * p.dk_stride + column, p.dk_stride, rows, p.accumulate_dk,
                    warp_row, lane);
    }
    if (p.dv != nullptr) {
      const float ones[2] = {1.f, 1.f};
      store_rows<D>(dv, ones, p.dv + row * p.dv_stride + column, p.dv_stride, rows, p.accumulate_dv, warp_row,
                    lane);
    }
  }
#endif
}

// Tiles of dq as the pass left them become rows.
template <int D>
__global__ void __launch_bounds__(GROUPS* GROUP_THREADS)
    store_query_gradient(const __grid_constant__ SoftmaxAttentionBackward<bfloat16> p, const float* sums,
                         int tiles) {
  const int tile = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const AttentionPlace place(p.shape, tile / tiles);
  const int first = tile % tiles * QUERIES, thread = static_cast<int>(threadIdx.x);
  if (first >= place.queries) return;
  const float4* const from = reinterpret_cast<const float4*>(
                                 sums + (static_cast<int64_t>(tile) * gridDim.y + head) * (QUERIES * D)) +
                             thread;
  float dq[D / 4];
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    const float4 x = __ldcs(from + i * GROUPS * GROUP_THREADS);
    dq[4 * i] = x.x, dq[4 * i + 1] = x.y, dq[4 * i + 2] = x.z, dq[4 * i + 3] = x.w;
  }
  const float scale = static_cast<float>(p.shape.scale), scales[2] = {scale, scale};
  const int column = head * D + thread / GROUP_THREADS * (D / GROUPS);
  store_rows<D / GROUPS>(dq, scales, p.dq + (place.q_first + first) * p.dq_stride + column, p.dq_stride,
                         place.queries - first, p.accumulate_dq, thread / 32 % GROUP_WARPS * 16, thread % 32);
}

template <class Shape>
void launch(const SoftmaxAttentionBackward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  AttentionOrder order(s.sequences * s.kv_heads, divide_up(s.longest_k, ROWS),
                       s.longest_q * s.head_dim * 8 * s.heads / s.kv_heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(
        cudaFuncSetAttribute(gradients<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::BYTES));
    return true;
  }();
  // Fewer blocks at a time follow one another through the tiles of a pair; these, between them, share what
  // they read through the cache.
  constexpr unsigned kPairsTogether = 32;
  order.pairs_together = std::min(order.pairs, kPairsTogether);
  const GradientTiles tiles(s);
  const QuerySums query_sums{tiles.turns(p.workspace), tiles.sums(p.workspace),
                             static_cast<int>(tiles.a_sequence)};
  SLUICE_CUDA_CHECK(cudaMemsetAsync(p.workspace, 0, static_cast<size_t>(256 + tiles.turn_bytes()), p.stream));
  const int64_t most_queries = s.sequences * s.longest_q, most_keys = s.sequences * s.longest_k;
  const PassMaps maps{map_of_rows(p.q, s.heads * s.head_dim, most_queries, p.q_stride, QUERIES),
                      map_of_rows(p.k, s.kv_heads * s.head_dim, most_keys, p.k_stride, GROUP_ROWS),
                      map_of_rows(p.v, s.kv_heads * s.head_dim, most_keys, p.v_stride, GROUP_ROWS),
                      map_of_rows(p.d_o, s.heads * s.head_dim, most_queries, p.d_o_stride, QUERIES)};
  const unsigned blocks = std::min(order.blocks(), static_cast<unsigned>(multiprocessors()));
  gradients<Shape><<<blocks, THREADS, Shape::BYTES, p.stream>>>(p, order, maps, query_sums);
  SLUICE_CHECK_LAUNCH("softmax_attention_gradients on sm_90a");
  const dim3 grid(static_cast<unsigned>(s.sequences * tiles.a_sequence), static_cast<unsigned>(s.heads));
  store_query_gradient<Shape::D>
      <<<grid, GROUPS * GROUP_THREADS, 0, p.stream>>>(p, query_sums.sums, query_sums.tiles);
  SLUICE_CHECK_LAUNCH("softmax_attention_query_gradient on sm_90a");
}

// Few tiles an item: two passes over head size 64 need no sums in memory and are as fast, or faster.
bool prefers_one_pass(const AttentionShape& s) {
  constexpr int64_t kFewKeys = 2048;
  if (cuda::gradient_passes() != GradientPasses::kByShape)
    return cuda::gradient_passes() == GradientPasses::kOne;
  const int64_t reach = s.window > 0 ? std::min(s.window, s.longest_k) : s.longest_k;
  return s.head_dim != 64 || reach > kFewKeys;
}

}  // namespace

int64_t cuda::gradients_workspace_on_hopper(const SoftmaxAttentionBackward<bfloat16>& p) {
  constexpr int64_t kMostBytes = int64_t{512} << 20;
  if (p.dq == nullptr || (p.dk == nullptr && p.dv == nullptr) || !prefers_one_pass(p.shape)) return 0;
  const int64_t bytes = GradientTiles(p.shape).bytes();
  return bytes <= kMostBytes ? bytes : 0;
}

void cuda::gradients_on_hopper(const SoftmaxAttentionBackward<bfloat16>& p) {
  if (p.shape.head_dim == 64) {
    launch<PassShape<64, 4, 2, 3, true>>(p);
  } else {
    launch<PassShape<128, 2, 1, 2, false>>(p);
  }
}

}  // namespace sluice::kernels
