// X^T = X^T decay + W^T hat along a sequence in the registers of two warpgroups, and from it, chunk by chunk,
//   O^T = X^T emit_hat^T + W^T P^T    (in reverse dV^T, with P),
// a third warpgroup copying ahead. README.md has the data flow.
#include <algorithm>

#include "core/cuda_check.h"
#include "kernels/common/compute_capability.h"
#include "kernels/common/tensor_map.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.cuh"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = PRODUCERS + CONSUMERS;
constexpr int kMultiprocessors = 132;  // a constant: the segments, and so the sums, depend on shapes alone
constexpr int kLeastSegment = 8;       // chunks

// One block a slot of segments, kv head and 128 values.
template <int KEYS, WalkMode MODE>
__device__ __forceinline__ void walk_segment(const Chunked& p, const FusedWalk& w, unsigned index) {
  using Shape = WalkShape<KEYS, MODE>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t stages = shared_address(memory), full = stages + Shape::STAGES * Shape::STAGE_BYTES;
  const uint32_t empty = full + 8 * Shape::STAGES;
  const int K = p.key_size, V = p.value_size;
  const unsigned tiles = (V + VALUES - 1) / VALUES;
  const unsigned tile = index % tiles;
  const int v0 = static_cast<int>(tile) * VALUES, head = static_cast<int>(index / tiles % p.kv_heads);
  const int64_t slot = index / tiles / p.kv_heads;
  Segment segment;
  if (!segment_of_slot(segment, p, w.segment_chunks, slot)) return;
  const bool is_last = segment.index == (w.reverse ? 0 : segment.segments - 1);
  if (MODE == WalkMode::kUpdate && is_last) return;
  const int block = block_of_cluster(), cluster_blocks = blocks_of_cluster();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::STAGES; ++i) {
      barrier_init(full + 8 * i, PRODUCERS / 32 * ARRIVALS_OF_WARP + 1);
      barrier_init(empty + 8 * i, CONSUMERS / 32 * ARRIVALS_OF_WARP * cluster_blocks);
    }
    fence_barrier_init();
  }
  sync_cluster();
  const auto chunk_of_step = [&](int step) { return w.reverse ? segment.chunks - 1 - step : step; };
  const int lane = threadIdx.x & 31;

  if (threadIdx.x < PRODUCERS) {
    give_back_registers<40>();
    const bfloat16* values =
        w.values.data + segment.first_token * w.values.stride + static_cast<int64_t>(head) * V + v0;
    const auto signal = [&](int step) {
      fence_shared_for_tensor_cores();
      barrier_arrive_of_warp(full + 8 * (step % Shape::STAGES), lane);
    };
    for (int step = 0; step < segment.chunks; ++step) {
      const int stage = step % Shape::STAGES;
      if (step >= Shape::STAGES) barrier_wait(empty + 8 * stage, (step / Shape::STAGES - 1) & 1);
      const int chunk = chunk_of_step(step);
      const int64_t left = segment.tokens - static_cast<int64_t>(chunk) * CHUNK;
      if (threadIdx.x == 0) {
        copy_shared_tiles<KEYS, MODE>(stages + stage * Shape::STAGE_BYTES, full + 8 * stage, p, w,
                                      (segment.first_chunk + chunk) * p.kv_heads + head, block,
                                      cluster_blocks);
      }
      copy_values(stages + stage * Shape::STAGE_BYTES + Shape::VALUE_PLACE,
                  values + chunk * CHUNK * w.values.stride, w.values.stride,
                  static_cast<int>(left < CHUNK ? left : CHUNK), V - v0);
      commit_copies();
      wait_for_copies<Shape::STAGES - 2>();
      if (step >= Shape::STAGES - 2) signal(step - (Shape::STAGES - 2));
    }
    wait_for_copies<0>();
    for (int step = max(0, segment.chunks - (Shape::STAGES - 2)); step < segment.chunks; ++step) signal(step);
    if (MODE == WalkMode::kUpdate && tile == 0) {
      for (int key = static_cast<int>(threadIdx.x); key < KEYS; key += PRODUCERS) {
        float decay = 1.0f;
#pragma unroll 4
        for (int i = 0; i < segment.chunks; ++i) {
          decay *= p.decay[((segment.first_chunk + i) * p.kv_heads + head) * KEYS + key];
        }
        w.segment_decays[(slot * p.kv_heads + head) * KEYS + key] = decay;
      }
    }
    sync_cluster();  // no block leaves while others arrive at its barriers
    return;
  }

  take_registers<232>();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
  const int warp_values = v0 + warpgroup * PANEL + (static_cast<int>(threadIdx.x) / 32 & 3) * 16;
  const auto of_slot = [&](auto* states, int64_t s) { return states + (s * p.kv_heads + head) * K * V; };
  const auto fragments_of = [&](int64_t s) {
    return reinterpret_cast<float4*>(w.segment_states) +
           ((((s * p.kv_heads + head) * tiles + tile) * 2 + warpgroup) * (KEYS / 8)) * 128 +
           (threadIdx.x & 127);
  };
  float x[KEYS / 2] = {};
  if (MODE != WalkMode::kUpdate) {
    const int64_t start_slot = w.start.read != nullptr ? w.start.of_sequence[segment.sequence] : -1;
    if (start_slot >= 0) {
      const float* from = of_slot(w.start.read, start_slot);
      visit_state<KEYS / 2>(warp_values, V, K, [&](int i, int value, int key) {
        x[i] = w.start_factor * from[static_cast<int64_t>(key) * V + value];
      });
    }
    const int before = w.reverse ? segment.segments - 1 - segment.index : segment.index;
    for (int j = before; j > 0; --j) {
      const int64_t other = w.reverse ? slot + j : slot - j;
      const float4* from = fragments_of(other);
      const float* decay = w.segment_decays + (other * p.kv_heads + head) * KEYS + 2 * (lane & 3);
#pragma unroll
      for (int t = 0; t < KEYS / 8; ++t) {
        const float4 add = from[t * 128];
        const float2 d = *reinterpret_cast<const float2*>(decay + 8 * t);
        x[4 * t] = x[4 * t] * d.x + add.x, x[4 * t + 1] = x[4 * t + 1] * d.y + add.y;
        x[4 * t + 2] = x[4 * t + 2] * d.x + add.z, x[4 * t + 3] = x[4 * t + 3] * d.y + add.w;
      }
    }
  }
  bfloat16* const to =
      w.to.data + segment.first_token * w.to.stride + static_cast<int64_t>(head) * V + warp_values;
  for (int step = 0; step < segment.chunks; ++step) {
    const int in_ring = step % Shape::STAGES, chunk = chunk_of_step(step);
    const uint32_t stage = stages + in_ring * Shape::STAGE_BYTES;
    const float* decay =
        reinterpret_cast<const float*>(memory + in_ring * Shape::STAGE_BYTES + Shape::DECAY_PLACE);
    const uint32_t values = stage + Shape::VALUE_PLACE + warpgroup * Shape::PANEL_BYTES;
    barrier_wait(full + 8 * in_ring, (step / Shape::STAGES) & 1);
    float out[CHUNK / 2];
    if constexpr (Shape::STORES) {
      if (w.states != nullptr && warp_values < p.fragments.steps * 16) {
        const int64_t state = (segment.first_chunk + chunk) * p.kv_heads + head;
        uint4* to =
            reinterpret_cast<uint4*>(w.states) + first_piece(p.fragments, state, 0, warp_values / 16) + lane;
#pragma unroll
        for (int panel = 0; panel < Shape::PANELS; ++panel) {
          uint32_t packed[4][4];
          pack_panel(packed, x, panel);
          if (panel * PANEL < K) store_panel(packed, to + panel * p.fragments.steps * 4 * 32);
        }
      }
      pin_registers(x);  // or what is packed stays for the products below, and registers run out
    }
    // No product runs while X decays: the compiler would wait for it at every step. And two panels of factors
    // at a time are what registers hold.
    constexpr int BATCH = Shape::PANELS < 2 ? 1 : 2;
#pragma unroll
    for (int first = 0; first < Shape::PANELS; first += BATCH) {
      uint32_t factors[BATCH][4][4];
#pragma unroll
      for (int i = 0; i < BATCH; ++i) {
        const int panel = first + i;
        if constexpr (Shape::EMITS) pack_panel(factors[i], x, panel);
        decay_panel(x, decay, panel);
      }
      wgmma_fence();
      if constexpr (Shape::EMITS) {
#pragma unroll
        for (int i = 0; i < 4 * BATCH; ++i) {
          const uint32_t tile = stage + Shape::EMIT_PLACE + (first + i / 4) * Shape::PANEL_BYTES + i % 4 * 32;
          wgmma(out, factors[i / 4][i % 4], wgmma_tile_along_columns(tile), first + i > 0);
        }
        if (first + BATCH < Shape::PANELS) {
          wgmma_commit();
          wgmma_wait<0>();
          pin_registers(out);
        }
      }
    }
    if constexpr (Shape::EMITS) {
      constexpr bool TRANSPOSED = MODE == WalkMode::kValues;
      const uint32_t scores = stage + Shape::SCORE_PLACE;
      add_scored_values<TRANSPOSED, 0>(out, values, scores);
      add_scored_values<TRANSPOSED, 1>(out, values, scores);
      add_scored_values<TRANSPOSED, 2>(out, values, scores);
      add_scored_values<TRANSPOSED, 3>(out, values, scores);
      wgmma_commit();
    }
    const int low_first = w.reverse ? 0 : CHUNK - LOW;  // tokens of the rounding errors
#pragma unroll
    for (int k = 0; k < HAT_ROWS; k += 16) {
      const int token = k < CHUNK ? k : low_first;
      wgmma<1>(x, wgmma_tile_along_rows(values + token * PANEL_ROW_BYTES, 0),
               wgmma_tile_along_rows(stage + k * PANEL_ROW_BYTES, Shape::HAT_PANEL_BYTES));
    }
    wgmma_commit();
    if constexpr (Shape::EMITS) {
      wgmma_wait<1>();
      pin_registers(out);
      const int64_t left = segment.tokens - static_cast<int64_t>(chunk) * CHUNK;
      store_transposed<Shape::FLIPPED>(out, p.factor, to + chunk * CHUNK * w.to.stride, w.to.stride,
                                       static_cast<int>(left < CHUNK ? left : CHUNK),
                                       w.to.data != nullptr ? V - warp_values : 0);
    }
    wgmma_wait<0>();
    pin_registers(x);
    barrier_arrive_of_warp_at_all(empty + 8 * in_ring, cluster_blocks, lane);
  }
  if constexpr (MODE == WalkMode::kUpdate) {
    float4* end = fragments_of(slot);
#pragma unroll
    for (int t = 0; t < KEYS / 8; ++t) {
      end[t * 128] = make_float4(x[4 * t], x[4 * t + 1], x[4 * t + 2], x[4 * t + 3]);
    }
  } else {
    const int64_t end_slot = is_last && w.end.written != nullptr ? w.end.of_sequence[segment.sequence] : -1;
    if (end_slot >= 0) {
      float* end = of_slot(w.end.written, end_slot);
      visit_state<KEYS / 2>(warp_values, V, K, [&](int i, int value, int key) {
        end[static_cast<int64_t>(key) * V + value] = w.end_factor * x[i];
      });
    }
  }
  sync_cluster();
}

template <int KEYS, WalkMode MODE>
__global__ void __launch_bounds__(THREADS, 1)
    fused_walk(const __grid_constant__ Chunked p, const __grid_constant__ FusedWalk w) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  walk_segment<KEYS, MODE>(p, w, blockIdx.x);
#endif
}

struct WalkPair {
  FusedWalk walks[2];
  unsigned blocks;  // of each
};

// What segments leave of themselves, in two walks at a time: the last segment has nothing to do here, so that
// one walk alone would leave up to half of the multiprocessors unused.
template <int KEYS>
__global__ void __launch_bounds__(THREADS, 1)
    fused_updates(const __grid_constant__ Chunked p, const __grid_constant__ WalkPair pair) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  const bool second = blockIdx.x >= pair.blocks;
  walk_segment<KEYS, WalkMode::kUpdate>(p, pair.walks[second], blockIdx.x - second * pair.blocks);
#endif
}

template <int KEYS, WalkMode MODE, class Walks>
void launch_blocks(void (*kernel)(Chunked, Walks), const Chunked& chunked, const Walks& walks, int64_t slots,
                   Stream stream) {
  using Shape = WalkShape<KEYS, MODE>;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::BYTES);
  SLUICE_CUDA_CHECK(allowed);
  const int64_t tiles = (chunked.value_size + VALUES - 1) / VALUES;
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {tiles % 2 == 0 ? 2u : 1u, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(slots * chunked.kv_heads * tiles));
  config.blockDim = dim3(THREADS), config.dynamicSmemBytes = Shape::BYTES, config.stream = stream;
  config.attrs = &cluster, config.numAttrs = 1;
  SLUICE_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, chunked, walks));
  SLUICE_CHECK_LAUNCH("gated_linear_attention fused walk");
}

template <int KEYS, WalkMode MODE>
void launch_mode(const Chunked& chunked, const FusedWalk& walk, Stream stream) {
  launch_blocks<KEYS, MODE>(fused_walk<KEYS, MODE>, chunked, walk, walk.slots, stream);
}

template <int KEYS>
void launch_walk(const Chunked& chunked, const FusedWalk& walk, const FusedWalk* second, Stream stream) {
  if (walk.slots > chunked.sequences && second != nullptr) {
    const int64_t tiles = (chunked.value_size + VALUES - 1) / VALUES;
    const WalkPair pair = {{walk, *second}, static_cast<unsigned>(walk.slots * chunked.kv_heads * tiles)};
    launch_blocks<KEYS, WalkMode::kUpdate>(fused_updates<KEYS>, chunked, pair, 2 * walk.slots, stream);
  } else if (walk.slots > chunked.sequences) {
    launch_mode<KEYS, WalkMode::kUpdate>(chunked, walk, stream);
  }
  for (const FusedWalk* w : {&walk, second}) {
    if (w == nullptr) continue;
    if (w->reverse) {
      launch_mode<KEYS, WalkMode::kValues>(chunked, *w, stream);
    } else if (w->to.data != nullptr) {
      launch_mode<KEYS, WalkMode::kOutput>(chunked, *w, stream);
    } else {
      launch_mode<KEYS, WalkMode::kStates>(chunked, *w, stream);
    }
  }
}

int64_t padded_keys(int64_t key_size) { return fused_panels(key_size) * int64_t{PANEL}; }

}  // namespace

bool has_fused_walk() {
#ifdef SLUICE_SM90A
  return runs_sm90a() && has_tensor_maps();
#else
  return false;
#endif
}

Segmentation segmentation_of(int64_t chunks, int64_t sequences, int64_t heads, int64_t key_size,
                             int64_t value_size) {
  Segmentation s;
  s.chunks = chunks + 1,
  s.slots = sequences;  // more than any: an empty last sequence, too, begins in segment 0
  const int64_t tiles = (value_size + VALUES - 1) / VALUES, units = heads * tiles;
  if (sequences * units * 4 >= kMultiprocessors * 3) return s;
  const int64_t segment =
      std::max<int64_t>((chunks * units + kMultiprocessors - 5) / (kMultiprocessors - 4), kLeastSegment);
  if (segment * sequences >= chunks) return s;
  s.chunks = segment, s.slots = chunks / segment + sequences;
  s.state_elements = s.slots * units * VALUES * padded_keys(key_size);
  s.decay_elements = s.slots * heads * padded_keys(key_size);
  return s;
}

void walk_fused(const Chunked& chunked, const FusedWalk& walk, const FusedWalk* second, Stream stream) {
  if (chunked.sequences == 0) return;
  const int64_t keys = padded_keys(chunked.key_size);
  if (keys == 64) {
    launch_walk<64>(chunked, walk, second, stream);
  } else if (keys == 128) {
    launch_walk<128>(chunked, walk, second, stream);
  } else {
    launch_walk<256>(chunked, walk, second, stream);
  }
}

}  // namespace sluice::kernels::gla
