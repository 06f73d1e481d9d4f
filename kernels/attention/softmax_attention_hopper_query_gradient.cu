// dq on sm_90a. A group of four warps owns 64 queries; tiles of keys and values pass: S = Q K^T and dP = dO
// V^T, from them dS in registers, dQ += dS K. Exponentials are taken while dP is multiplied.
#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/attention/attention_hopper.h"
#include "kernels/attention/attention_hopper_work.cuh"
#include "kernels/common/multiprocessors.h"

namespace sluice::kernels {
namespace {

template <int D_, int GROUPS_, int KEYS_, int STAGES_, int OWN_STAGES_>
struct QueryShape {
  static constexpr int D = D_, GROUPS = GROUPS_, KEYS = KEYS_, STAGES = STAGES_, OWN_STAGES = OWN_STAGES_;
  static constexpr int ROWS = GROUP_ROWS * GROUPS, THREADS = GROUP_THREADS * (GROUPS + 1);
  // Own queries, then own dO.
  static constexpr int GROUP_BYTES = PanelTile<D, GROUP_ROWS>::BYTES, OWN_BYTES = 2 * GROUPS * GROUP_BYTES;
  static constexpr int TILE_BYTES = PanelTile<D, KEYS>::BYTES;
  static constexpr int KEY_PLACE = OWN_STAGES * OWN_BYTES, VALUE_PLACE = KEY_PLACE + STAGES * TILE_BYTES;
  static constexpr int BARRIER_PLACE = VALUE_PLACE + STAGES * TILE_BYTES;
  static constexpr int TASK_PLACE = BARRIER_PLACE + 16 * OWN_STAGES + 32 * STAGES;
  static constexpr int BYTES = TASK_PLACE + static_cast<int>(sizeof(QueryTask)) * OWN_STAGES;
  static_assert(TASK_PLACE % 16 == 0);
  static_assert(BYTES <= 227 * 1024);
};

struct QueryMaps {
  CUtensorMap q, k, v, d_o;
};

template <class Shape>
__global__ void __launch_bounds__(Shape::THREADS, 1)
    query_gradient(const __grid_constant__ SoftmaxAttentionBackward<bfloat16> p,
                   const __grid_constant__ AttentionOrder order, const __grid_constant__ QueryMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int D = Shape::D, GROUPS = Shape::GROUPS, KEYS = Shape::KEYS, STAGES = Shape::STAGES;
  constexpr int WARPS = GROUPS * GROUP_WARPS;
  using Own = RingPlace<Shape::OWN_STAGES>;
  using Place = RingPlace<STAGES>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t own_tiles = shared_address(memory), key_tiles = own_tiles + Shape::KEY_PLACE,
                 value_tiles = own_tiles + Shape::VALUE_PLACE;
  const RingBarriers<Shape::OWN_STAGES> own_ring{own_tiles + Shape::BARRIER_PLACE};
  const RingBarriers<STAGES> key_ring{own_ring.first + own_ring.BYTES},
      value_ring{key_ring.first + key_ring.BYTES};
  QueryTask* const tasks = reinterpret_cast<QueryTask*>(memory + Shape::TASK_PLACE);
  if (threadIdx.x == 0) {
    own_ring.init(1, WARPS), key_ring.init(1, WARPS), value_ring.init(1, WARPS);
    fence_barrier_init();
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / GROUP_THREADS, 0) - 1;
  Own own;

  if (group < 0) {
    give_back_registers<COPY_REGISTERS<GROUPS>>();
    if (threadIdx.x >= 32) return;
    const MappedRows own_rows[2] = {{&maps.q, p.q, p.q_stride}, {&maps.d_o, p.d_o, p.d_o_stride}};
    const MappedRows keys[1] = {{&maps.k, p.k, p.k_stride}}, values[1] = {{&maps.v, p.v, p.v_stride}};
    Place at;
    Tickets tickets(static_cast<unsigned*>(p.workspace), lane);
    for (unsigned number = tickets.first(); number < order.blocks(); number = tickets.next()) {
      const QueryItem item(p, order, number, Shape::ROWS, KEYS);
      if (!item.exists()) continue;
      own_ring.wait_empty(own);
      if (lane == 0) tasks[own.stage] = item.task();
      copy_own_rows<D, GROUPS, 2>(own_tiles + own.stage * Shape::OWN_BYTES, own_rows,
                                  item.place.q_first + item.first, static_cast<int64_t>(item.head) * D,
                                  item.rows, own_ring.full(own), lane);
      own.advance();
      const int64_t column = static_cast<int64_t>(item.kv_head) * D;
      for (int tile = 0; tile < item.tiles; ++tile, at.advance()) {
        const int key = item.begin + tile * KEYS, left = item.place.keys - key;
        const int64_t row = item.place.k_first + key;
        key_ring.wait_empty(at);
        copy_tiles<D, KEYS, 1>(key_tiles + at.stage * Shape::TILE_BYTES, keys, row, column, left,
                               key_ring.full(at), lane);
        value_ring.wait_empty(at);
        copy_tiles<D, KEYS, 1>(value_tiles + at.stage * Shape::TILE_BYTES, values, row, column, left,
                               value_ring.full(at), lane);
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
  Place at;
  for (;; own.advance()) {
    own_ring.wait_full(own);
    const QueryTask task = tasks[own.stage];
    if (task.rows == 0) break;
    const AttentionPlace place(0, task.window);
    const int position = task.position + group * GROUP_ROWS;  // of the group's first row
    const int row = task.row + group * GROUP_ROWS;
    const int rows = task.rows - group * GROUP_ROWS;
    float lse[2], delta[2];  // lse in base 2
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = warp_row + half * 8 + lane / 4;
      const int64_t at_row = static_cast<int64_t>(row + r) * p.shape.heads + task.head;
      lse[half] = r < rows ? p.lse[at_row] * kLog2E : 0.f;
      delta[half] = r < rows ? p.delta[at_row] : 0.f;
    }
    const uint32_t queries = own_tiles + own.stage * Shape::OWN_BYTES + group * Shape::GROUP_BYTES;
    const uint32_t gradients = queries + GROUPS * Shape::GROUP_BYTES;
    int from, to;
    task.seen_tiles(group, KEYS, from, to);
    const auto skip = [&](int count) {
      Place values = at;
      skip_tiles(key_ring, at, value_ring, values, count, lane);
    };
    skip(from);

    float dq[D / 2];
#pragma unroll
    for (float& x : dq) x = 0.f;
    Place before = at;  // the tile that dQ is still being multiplied by
    for (int tile = from; tile < to; ++tile, at.advance()) {
      float score[KEYS / 2], gradient[KEYS / 2];
      key_ring.wait_full(at);
      wgmma_fence();
      multiply_tiles<D, KEYS>(score, queries, key_tiles + at.stage * Shape::TILE_BYTES);
      wgmma_commit();
      // The factors of the tile before have been read: dP takes their registers.
      wgmma_wait<1>();
      if (tile > from) key_ring.release(before, lane);
      value_ring.wait_full(at);
      wgmma_fence();
      multiply_tiles<D, KEYS>(gradient, gradients, value_tiles + at.stage * Shape::TILE_BYTES);
      wgmma_commit();
      wgmma_wait<1>();
      pin_registers(score);
      const int key = task.begin + tile * KEYS;
      if (!place.all_see(position, GROUP_ROWS, key, KEYS)) {
        keep_columns(
            score, [&](int row, int& first, int& last) { place.seen_keys(position + row, key, first, last); },
            warp_row, lane);
      }
#pragma unroll
      for (int i = 0; i < KEYS / 2; ++i) {
        score[i] = exp2_approximate(fmaf(score[i], factor, -lse[i / 2 % 2]));
      }
      wgmma_wait<0>();
      pin_registers(gradient);
      pin_registers(dq);
      value_ring.release(at, lane);
#pragma unroll
      for (int i = 0; i < KEYS / 2; ++i) score[i] *= gradient[i] - delta[i / 2 % 2];
      uint32_t factors[KEYS / 16][4];
      pack_factors(factors, score);
      wgmma_fence();
      add_product<D, KEYS>(dq, factors, key_tiles + at.stage * Shape::TILE_BYTES);
      wgmma_commit();
      before = at;
    }
    own_ring.release(own, lane);
    wgmma_wait<0>();
    pin_registers(dq);
    if (from < to) key_ring.release(before, lane);
    skip(task.tiles - to);
    const float scales[2] = {scale, scale};
    store_rows<D>(dq, scales, p.dq + row * p.dq_stride + static_cast<int64_t>(task.head) * D, p.dq_stride,
                  rows, p.accumulate_dq, warp_row, lane);
  }
#endif
}

template <class Shape>
void launch(const SoftmaxAttentionBackward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(s.sequences * s.heads, divide_up(s.longest_q, Shape::ROWS),
                             s.longest_k * s.head_dim * 4 * s.kv_heads / s.heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(cudaFuncSetAttribute(query_gradient<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           Shape::BYTES));
    return true;
  }();
  const int64_t most_queries = s.sequences * s.longest_q, most_keys = s.sequences * s.longest_k;
  const QueryMaps maps{map_of_rows(p.q, s.heads * s.head_dim, most_queries, p.q_stride, GROUP_ROWS),
                       map_of_rows(p.k, s.kv_heads * s.head_dim, most_keys, p.k_stride, Shape::KEYS),
                       map_of_rows(p.v, s.kv_heads * s.head_dim, most_keys, p.v_stride, Shape::KEYS),
                       map_of_rows(p.d_o, s.heads * s.head_dim, most_queries, p.d_o_stride, GROUP_ROWS)};
  const unsigned blocks = std::min(order.blocks(), static_cast<unsigned>(multiprocessors()));
  query_gradient<Shape><<<blocks, Shape::THREADS, Shape::BYTES, p.stream>>>(p, order, maps);
  SLUICE_CHECK_LAUNCH("softmax_attention_query_gradient on sm_90a");
}

}  // namespace

void cuda::query_gradient_on_hopper(const SoftmaxAttentionBackward<bfloat16>& p) {
  if (p.shape.head_dim == 64) {
    launch<QueryShape<64, 2, 128, 3, 2>>(p);
  } else {
    launch<QueryShape<128, 2, 128, 2, 1>>(p);
  }
}

}  // namespace sluice::kernels
