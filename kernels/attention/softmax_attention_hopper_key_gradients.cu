// dk and dv on sm_90a. A group of four warps owns 64 keys; the queries of all heads that use them pass:
// transposed scores S^T = K Q^T and dP^T = V dO^T, from them P^T and dS^T in registers, dV += P^T dO and dK
// += dS^T Q. Exponentials are taken while dP is multiplied, dS is made while P multiplies dO.
#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/attention/attention_hopper.h"
#include "kernels/attention/attention_hopper_work.cuh"
#include "kernels/common/multiprocessors.h"

namespace sluice::kernels {
namespace {

template <int D_, int GROUPS_, int QUERIES_, int STAGES_, int OWN_STAGES_, bool KEEPS_>
struct KeyShape {
  static constexpr int D = D_, GROUPS = GROUPS_, QUERIES = QUERIES_, STAGES = STAGES_;
  static constexpr int OWN_STAGES = OWN_STAGES_;
  // Whether own rows are kept in registers. At D 128 the sums leave no room for them.
  static constexpr bool KEEPS = KEEPS_;
  static_assert(!KEEPS || D == 64);
  static constexpr int ROWS = GROUP_ROWS * GROUPS, THREADS = GROUP_THREADS * (GROUPS + 1);
  // Own keys, then own values. A stage: queries, dO.
  static constexpr int GROUP_BYTES = PanelTile<D, GROUP_ROWS>::BYTES, OWN_BYTES = 2 * GROUPS * GROUP_BYTES;
  static constexpr int TILE_BYTES = PanelTile<D, QUERIES>::BYTES, STAGE_BYTES = 2 * TILE_BYTES;
  static constexpr int STAGE_PLACE = OWN_STAGES * OWN_BYTES;
  // lse and delta of each stage's queries.
  static constexpr int STATISTIC_PLACE = STAGE_PLACE + STAGES * STAGE_BYTES, STATISTIC_BYTES = 8 * QUERIES;
  static constexpr int BARRIER_PLACE = STATISTIC_PLACE + STAGES * STATISTIC_BYTES;
  static constexpr int TASK_PLACE = BARRIER_PLACE + 16 * OWN_STAGES + 16 * STAGES;
  static constexpr int BYTES = TASK_PLACE + static_cast<int>(sizeof(KeyTask)) * OWN_STAGES;
  static_assert(TASK_PLACE % 16 == 0);
  static_assert(BYTES <= 227 * 1024);
};

struct KeyMaps {
  CUtensorMap q, k, v, d_o;
};

template <class Shape>
__global__ void __launch_bounds__(Shape::THREADS, 1)
    key_gradients(const __grid_constant__ SoftmaxAttentionBackward<bfloat16> p,
                  const __grid_constant__ AttentionOrder order, const __grid_constant__ KeyMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int D = Shape::D, GROUPS = Shape::GROUPS, QUERIES = Shape::QUERIES, STAGES = Shape::STAGES;
  constexpr int WARPS = GROUPS * GROUP_WARPS;
  using Own = RingPlace<Shape::OWN_STAGES>;
  using Place = RingPlace<STAGES>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t own_tiles = shared_address(memory), stages = own_tiles + Shape::STAGE_PLACE;
  const uint32_t statistics = own_tiles + Shape::STATISTIC_PLACE;
  const RingBarriers<Shape::OWN_STAGES> own_ring{own_tiles + Shape::BARRIER_PLACE};
  const RingBarriers<STAGES> ring{own_ring.first + own_ring.BYTES};
  KeyTask* const tasks = reinterpret_cast<KeyTask*>(memory + Shape::TASK_PLACE);
  if (threadIdx.x == 0) {
    own_ring.init(1, WARPS), ring.init(1, WARPS, 32);
    fence_barrier_init();
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / GROUP_THREADS, 0) - 1;
  const int heads_of_key = static_cast<int>(p.shape.heads / p.shape.kv_heads);
  Own own;
  Place at;

  if (group < 0) {
    give_back_registers<COPY_REGISTERS<GROUPS>>();
    if (threadIdx.x >= 32) return;
    const MappedRows own_rows[2] = {{&maps.k, p.k, p.k_stride}, {&maps.v, p.v, p.v_stride}};
    const MappedRows passing[2] = {{&maps.q, p.q, p.q_stride}, {&maps.d_o, p.d_o, p.d_o_stride}};
    Tickets tickets(static_cast<unsigned*>(p.workspace) + 1, lane);
    for (unsigned number = tickets.first(); number < order.blocks(); number = tickets.next()) {
      const KeyItem item(p, order, number, Shape::ROWS, QUERIES);
      if (!item.exists()) continue;
      own_ring.wait_empty(own);
      if (lane == 0) tasks[own.stage] = item.task();
      copy_own_rows<D, GROUPS, 2>(own_tiles + own.stage * Shape::OWN_BYTES, own_rows,
                                  item.place.k_first + item.first, static_cast<int64_t>(item.kv_head) * D,
                                  item.rows, own_ring.full(own), lane);
      own.advance();
      for (int head = item.kv_head * heads_of_key; head < (item.kv_head + 1) * heads_of_key; ++head) {
        for (int tile = 0; tile < item.tiles; ++tile, at.advance()) {
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
        }
      }
    }
    own_ring.wait_empty(own);
    if (lane == 0) {
      tasks[own.stage].rows = 0;
      barrier_arrive(own_ring.full(own));
    }
    barrier_arrive_beside(own_ring.full(own), lane);
    return;
  }

  take_registers<MULTIPLY_REGISTERS<GROUPS>>();
  const int warp_row = static_cast<int>(threadIdx.x) / 32 % GROUP_WARPS * 16;
  const float scale = static_cast<float>(p.shape.scale), factor = scale * kLog2E;
  for (;; own.advance()) {
    own_ring.wait_full(own);
    const KeyTask task = tasks[own.stage];
    if (task.rows == 0) break;
    const AttentionPlace place(task.keys, task.window);
    const int key = task.key + group * GROUP_ROWS;  // position of the group's first row
    const uint32_t keys = own_tiles + own.stage * Shape::OWN_BYTES + group * Shape::GROUP_BYTES;
    const uint32_t values = keys + GROUPS * Shape::GROUP_BYTES;
    int from, to;
    task.seeing_tiles(group, QUERIES, from, to);

    uint32_t own_keys[D / 16][4], own_values[D / 16][4];
    if constexpr (Shape::KEEPS) {
      load_factors<D>(own_keys, keys, warp_row, lane);
      load_factors<D>(own_values, values, warp_row, lane);
      own_ring.release(own, lane);
    }
    uint32_t key_factors[D / 16][4], value_factors[D / 16][4];
    if constexpr (Shape::KEEPS) copy_factors(key_factors, own_keys, 0);
    float dk[D / 2], dv[D / 2];
#pragma unroll
    for (int i = 0; i < D / 2; ++i) dk[i] = dv[i] = 0.f;
    const auto skip = [&](int count) {
      for (; count > 0; --count, at.advance()) ring.wait_full(at), ring.release(at, lane);
    };
    for (int head = 0; head < heads_of_key; ++head) {
      skip(from);
      Place before = at;  // the tile that dV and dK are still being multiplied by
      for (int tile = from; tile < to; ++tile, at.advance()) {
        float score[QUERIES / 2], gradient[QUERIES / 2];
        const uint32_t queries = stages + at.stage * Shape::STAGE_BYTES;
        const uint32_t gradients = queries + Shape::TILE_BYTES;
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
        if (tile > from) ring.release(before, lane);
        if constexpr (Shape::KEEPS) {
          copy_factors(value_factors, own_values, static_cast<uint32_t>(task.rows + tile) >> 31);
          wgmma_fence();
          multiply_tiles<D, QUERIES>(gradient, value_factors, gradients);
        } else {
          wgmma_fence();
          multiply_tiles<D, QUERIES>(gradient, values, gradients);
        }
        wgmma_commit();
        wgmma_wait<1>();
        pin_registers(score);
        const int position = task.begin + tile * QUERIES;
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
        score_gradients_of_keys(score, gradient, lse + QUERIES);
        uint32_t gradient_factors[QUERIES / 16][4];
        pack_factors(gradient_factors, score);
        if constexpr (Shape::KEEPS) {
          copy_factors(key_factors, own_keys, static_cast<uint32_t>(task.rows + tile) >> 31);
        }
        wgmma_fence();
        add_product<D, QUERIES>(dk, gradient_factors, queries);
        wgmma_commit();
        before = at;
      }
      wgmma_wait<0>();
      pin_registers(dk);
      pin_registers(dv);
      if (from < to) ring.release(before, lane);
      skip(task.tiles - to);
    }
    if constexpr (!Shape::KEEPS) own_ring.release(own, lane);

    const int64_t row = task.row + group * GROUP_ROWS, column = static_cast<int64_t>(task.kv_head) * D;
    const int rows = task.rows - group * GROUP_ROWS;
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

template <class Shape>
void launch(const SoftmaxAttentionBackward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(s.sequences * s.kv_heads, divide_up(s.longest_k, Shape::ROWS),
                             s.longest_q * s.head_dim * 4 * s.heads / s.kv_heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(key_gradients<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           Shape::BYTES));
    return true;
  }();
  const int64_t most_queries = s.sequences * s.longest_q, most_keys = s.sequences * s.longest_k;
  const KeyMaps maps{map_of_rows(p.q, s.heads * s.head_dim, most_queries, p.q_stride, Shape::QUERIES),
                     map_of_rows(p.k, s.kv_heads * s.head_dim, most_keys, p.k_stride, GROUP_ROWS),
                     map_of_rows(p.v, s.kv_heads * s.head_dim, most_keys, p.v_stride, GROUP_ROWS),
                     map_of_rows(p.d_o, s.heads * s.head_dim, most_queries, p.d_o_stride, Shape::QUERIES)};
  const unsigned blocks = std::min(order.blocks(), static_cast<unsigned>(multiprocessors()));
  key_gradients<Shape><<<blocks, Shape::THREADS, Shape::BYTES, p.stream>>>(p, order, maps);
  SLUICE_CHECK_LAUNCH("softmax_attention_key_gradients on sm_90a");
}

}  // namespace

void cuda::key_gradients_on_hopper(const SoftmaxAttentionBackward<bfloat16>& p) {
  if (p.shape.head_dim == 64) {
    launch<KeyShape<64, 2, 64, 4, 2, true>>(p);
  } else {
    launch<KeyShape<128, 2, 64, 3, 2, false>>(p);
  }
}

}  // namespace sluice::kernels
