// Forward on sm_90a. A group of four warps owns 64 queries; their scores against a tile of keys are computed
// while the probabilities of the tile before multiply its values.
#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/attention/attention_hopper.h"
#include "kernels/attention/attention_hopper_work.cuh"
#include "kernels/common/multiprocessors.h"

namespace sluice::kernels {
namespace {

template <int D_, int GROUPS_, int KEYS_, int STAGES_>
struct ForwardShape {
  static constexpr int D = D_, GROUPS = GROUPS_, KEYS = KEYS_, STAGES = STAGES_, OWN_STAGES = 2;
  static constexpr int ROWS = GROUP_ROWS * GROUPS, THREADS = GROUP_THREADS * (GROUPS + 1);
  static constexpr int GROUP_BYTES = PanelTile<D, GROUP_ROWS>::BYTES, OWN_BYTES = GROUPS * GROUP_BYTES;
  static constexpr int TILE_BYTES = PanelTile<D, KEYS>::BYTES;
  // Own queries, rings of keys and of values, barriers, numbers of items.
  static constexpr int KEY_PLACE = OWN_STAGES * OWN_BYTES, VALUE_PLACE = KEY_PLACE + STAGES * TILE_BYTES;
  static constexpr int BARRIER_PLACE = VALUE_PLACE + STAGES * TILE_BYTES;
  static constexpr int TASK_PLACE = BARRIER_PLACE + 16 * OWN_STAGES + 32 * STAGES;
  static constexpr int BYTES = TASK_PLACE + static_cast<int>(sizeof(QueryTask)) * OWN_STAGES;
  static_assert(TASK_PLACE % 16 == 0);
  static_assert(BYTES <= 227 * 1024);
};

struct ForwardMaps {
  CUtensorMap q, k, v;
};

// The running softmax of a group's rows: sums are relative to exp(reference), the largest score so far.
struct RunningSoftmax {
  float factor;  // makes scores exponents of 2
  float reference[2] = {kLowest, kLowest}, sum[2] = {0.f, 0.f}, shrink[2];

  // Scores become exponentials; what was summed before is to be multiplied by `shrink`.
  template <int COUNT>
  __device__ __forceinline__ void absorb(float (&score)[COUNT]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most[2] = {reference[half], reference[half]};
#pragma unroll
      for (int t = 0; t < COUNT / 4; ++t) {
#pragma unroll
        for (int e = 0; e < 2; ++e) most[e] = fmaxf(most[e], score[4 * t + 2 * half + e]);
      }
      const float maximum = row_maximum(fmaxf(most[0], most[1]));
      shrink[half] = exp2_approximate((reference[half] - maximum) * factor);
      reference[half] = maximum;
      sum[half] *= shrink[half];
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float offset = reference[half] * factor;
#pragma unroll
      for (int t = 0; t < COUNT / 4; ++t) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = score[4 * t + 2 * half + e];
          x = exp2_approximate(fmaf(x, factor, -offset));
          sum[half] += x;
        }
      }
    }
  }
};

template <class Shape>
__global__ void __launch_bounds__(Shape::THREADS, 1)
    attend(const __grid_constant__ SoftmaxAttentionForward<bfloat16> p,
           const __grid_constant__ AttentionOrder order, const __grid_constant__ ForwardMaps maps) {
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
    const MappedRows queries[1] = {{&maps.q, p.q, p.q_stride}}, keys[1] = {{&maps.k, p.k, p.k_stride}},
                     values[1] = {{&maps.v, p.v, p.v_stride}};
    Place at;
    Tickets tickets(static_cast<unsigned*>(p.workspace), lane);
    for (unsigned number = tickets.first(); number < order.blocks(); number = tickets.next()) {
      const QueryItem item(p, order, number, Shape::ROWS, KEYS);
      if (!item.exists()) continue;
      own_ring.wait_empty(own);
      if (lane == 0) tasks[own.stage] = item.task();
      copy_own_rows<D, GROUPS, 1>(own_tiles + own.stage * Shape::OWN_BYTES, queries,
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
  Place keys, values;
  for (;; own.advance()) {
    own_ring.wait_full(own);
    const QueryTask task = tasks[own.stage];
    if (task.rows == 0) break;
    const AttentionPlace place(0, task.window);
    const int position = task.position + group * GROUP_ROWS;  // of the group's first row
    const uint32_t queries = own_tiles + own.stage * Shape::OWN_BYTES + group * Shape::GROUP_BYTES;
    int from, to;
    task.seen_tiles(group, KEYS, from, to);
    skip_tiles(key_ring, keys, value_ring, values, from, lane);

    float o[D / 2];
#pragma unroll
    for (float& x : o) x = 0.f;
    RunningSoftmax softmax{static_cast<float>(p.shape.scale) * kLog2E};
    float score[KEYS / 2];
    uint32_t factors[KEYS / 16][4];
    const auto mask = [&](int tile) {
      const int key = task.begin + tile * KEYS;
      if (place.all_see(position, GROUP_ROWS, key, KEYS)) return;
      keep_columns(
          score, [&](int row, int& first, int& last) { place.seen_keys(position + row, key, first, last); },
          warp_row, lane);
    };
    const auto start_scores = [&] {
      key_ring.wait_full(keys);
      wgmma_fence();
      multiply_tiles<D, KEYS>(score, queries, key_tiles + keys.stage * Shape::TILE_BYTES);
      wgmma_commit();
    };
    const auto start_values = [&] {
      value_ring.wait_full(values);
      wgmma_fence();
      add_product<D, KEYS>(o, factors, value_tiles + values.stage * Shape::TILE_BYTES);
      wgmma_commit();
    };
    const auto end_values = [&] {
      wgmma_wait<0>();
      pin_registers(o);
      value_ring.release(values, lane);
      values.advance();
    };
    if (from < to) {
      start_scores();
      wgmma_wait<0>();
      pin_registers(score);
      key_ring.release(keys, lane);
      keys.advance();
      mask(from);
      softmax.absorb(score);
      pack_factors(factors, score);
      for (int tile = from + 1; tile < to; ++tile) {
        start_scores();
        start_values();
        wgmma_wait<1>();
        pin_registers(score);
        key_ring.release(keys, lane);
        keys.advance();
        mask(tile);
        softmax.absorb(score);
        end_values();
#pragma unroll
        for (int i = 0; i < D / 2; ++i) o[i] *= softmax.shrink[i / 2 % 2];
        pack_factors(factors, score);
      }
      own_ring.release(own, lane);
      start_values();
      end_values();
    } else {
      own_ring.release(own, lane);
    }
    skip_tiles(key_ring, keys, value_ring, values, task.tiles - to, lane);

    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      softmax.sum[half] = row_sum(softmax.sum[half]);
      inverse[half] = 1.f / softmax.sum[half];
    }
    const int64_t row = task.row + group * GROUP_ROWS;
    const int rows = task.rows - group * GROUP_ROWS;
    store_rows<D>(o, inverse, p.o + row * p.o_stride + static_cast<int64_t>(task.head) * D, p.o_stride, rows,
                  false, warp_row, lane);
    if (p.lse != nullptr && lane % 4 == 0) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = warp_row + half * 8 + lane / 4;
        if (r < rows) {
          p.lse[(row + r) * p.shape.heads + task.head] =
              fmaf(softmax.reference[half], softmax.factor, log2f(softmax.sum[half])) * kLn2;
        }
      }
    }
  }
#endif
}

template <class Shape>
void launch(const SoftmaxAttentionForward<bfloat16>& p) {
  const AttentionShape& s = p.shape;
  const AttentionOrder order(s.sequences * s.heads, divide_up(s.longest_q, Shape::ROWS),
                             s.longest_k * s.head_dim * 4 * s.kv_heads / s.heads);
  [[maybe_unused]] static const bool prepared = [] {
    SLUICE_CUDA_CHECK(
        cudaFuncSetAttribute(attend<Shape>, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::BYTES));
    return true;
  }();
  const int64_t most_queries = s.sequences * s.longest_q, most_keys = s.sequences * s.longest_k;
  const ForwardMaps maps{map_of_rows(p.q, s.heads * s.head_dim, most_queries, p.q_stride, GROUP_ROWS),
                         map_of_rows(p.k, s.kv_heads * s.head_dim, most_keys, p.k_stride, Shape::KEYS),
                         map_of_rows(p.v, s.kv_heads * s.head_dim, most_keys, p.v_stride, Shape::KEYS)};
  SLUICE_CUDA_CHECK(cudaMemsetAsync(p.workspace, 0, sizeof(unsigned), p.stream));
  const unsigned blocks = std::min(order.blocks(), static_cast<unsigned>(multiprocessors()));
  attend<Shape><<<blocks, Shape::THREADS, Shape::BYTES, p.stream>>>(p, order, maps);
  SLUICE_CHECK_LAUNCH("softmax_attention_forward on sm_90a");
}

}  // namespace

void cuda::attend_on_hopper(const SoftmaxAttentionForward<bfloat16>& p) {
  if (p.shape.head_dim == 64) {
    launch<ForwardShape<64, 3, 128, 4>>(p);
  } else {
    launch<ForwardShape<128, 2, 128, 2>>(p);
  }
}

}  // namespace sluice::kernels
