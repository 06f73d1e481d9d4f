// The walk of heads that decay as a whole: X = e^bC X + (factors W)^T hat in the registers of two warpgroups,
// and from it, chunk by chunk, out^T = X emit^T + W^T P^T (in reverse with P). A third warpgroup copies ahead
// and makes the scores P and the factors.
#pragma once

#include <type_traits>

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_heads.cuh"

namespace sluice::kernels::gla {

inline constexpr int WALK_THREADS = PRODUCERS + CONSUMERS;

__device__ __forceinline__ void sync_producers() {
  asm volatile("barrier.sync 1, %0;\n" ::"n"(PRODUCERS) : "memory");
}

// One block a slot of segments, head, 128 rows of X, and part.
template <class Shape>
__device__ __forceinline__ void walk_head(const Chunked& p, const HeadWalk& w, unsigned index) {
  constexpr int COLUMNS = Shape::COLUMNS, PARTS = Shape::PARTS ? 2 : 1, STAGES = Shape::STAGES;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t stages = shared_address(memory), full = stages + Shape::BARRIER_PLACE;
  const uint32_t empty = full + 8 * STAGES;
  [[maybe_unused]] const uint32_t arrived = empty + 8 * STAGES;  // sums of the other part
  const int part = static_cast<int>(index % PARTS);
  const unsigned tiles = (w.rows + VALUES - 1) / VALUES, tile = index / PARTS % tiles;
  const int row0 = static_cast<int>(tile) * VALUES;
  const int head = static_cast<int>(index / PARTS / tiles % p.kv_heads);
  const int64_t slot = index / PARTS / tiles / p.kv_heads;
  const int columns = w.columns - part * COLUMNS;
  const bool reverse = Shape::EMITS ? Shape::MODE == HeadMode::kReverse : w.reverse;
  Segment segment;
  if (!segment_of_slot(segment, p, w.segment_chunks, slot)) return;
  const bool is_last = segment.index == (reverse ? 0 : segment.segments - 1);
  if (!Shape::EMITS && is_last) return;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(full + 8 * i, PRODUCERS / 32 * ARRIVALS_OF_WARP);
      barrier_init(empty + 8 * i, CONSUMERS / 32 * ARRIVALS_OF_WARP);
    }
    if constexpr (Shape::EXCHANGE_BYTES > 0) {
      for (int i = 0; i < 2 * EXCHANGE_WARPS; ++i) barrier_init(arrived + 8 * i, ARRIVALS_OF_WARP);
    }
    fence_barrier_init();
  }
  sync_cluster();
  const auto chunk_of_step = [&](int step) { return reverse ? segment.chunks - 1 - step : step; };
  const int lane = threadIdx.x & 31;

  if (threadIdx.x < PRODUCERS) {
    give_back_registers<Shape::PRODUCER_REGISTERS>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const auto rows_of = [&](const Rows& rows, int size, int first) {
      return rows.data + segment.first_token * rows.stride + static_cast<int64_t>(head) * size + first;
    };
    const bfloat16* const values = rows_of(w.values, w.rows, row0);
    const bfloat16* const hat = rows_of(w.hat, w.columns, part * COLUMNS);
    const bfloat16* const emit = rows_of(w.emit, w.columns, part * COLUMNS);
    const auto tokens_of = [&](int chunk) {
      const int64_t left = segment.tokens - static_cast<int64_t>(chunk) * CHUNK;
      return static_cast<int>(left < CHUNK ? left : CHUNK);
    };
    const auto start = [&](int step) {
      const uint32_t stage = stages + step % STAGES * Shape::STAGE_BYTES;
      const int chunk = chunk_of_step(step), tokens = tokens_of(chunk);
      copy_rows<COLUMNS>(stage, hat + chunk * CHUNK * w.hat.stride, w.hat.stride, tokens, columns);
      if constexpr (Shape::EMITS) {
        copy_rows<COLUMNS>(stage + Shape::EMIT_PLACE, emit + chunk * CHUNK * w.emit.stride, w.emit.stride,
                           tokens, columns);
      }
      copy_rows<VALUES>(stage + Shape::VALUE_PLACE, values + chunk * CHUNK * w.values.stride, w.values.stride,
                        tokens, w.rows - row0);
      commit_copies();
    };
    float decay = 1.0f;
    // Copies of LAG later steps are on their way meanwhile.
    const auto finish = [&](int step, auto lag) {
      const int in_ring = step % STAGES, chunk = chunk_of_step(step), tokens = tokens_of(chunk);
      [[maybe_unused]] const uint32_t stage = stages + in_ring * Shape::STAGE_BYTES;
      float g[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int64_t token = static_cast<int64_t>(chunk) * CHUNK + 2 * lane + e;
        g[e] = 2 * lane + e < tokens ? head_gate(p.head_gates, segment.first_token + token, head) : 0.0f;
      }
      wait_for_copies<decltype(lag)::value>();
      fence_shared_for_tensor_cores();
      [[maybe_unused]] float products[CHUNK / 2];
      if constexpr (Shape::EMITS) {
        sync_producers();  // all of them have their rows
        const uint32_t queries = stage + (reverse ? 0 : Shape::EMIT_PLACE);
        const uint32_t keys = stage + (reverse ? Shape::EMIT_PLACE : 0);
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < COLUMNS / 16; ++i) {
          const uint32_t at = i / 4 * Shape::PANEL_BYTES + i % 4 * 32;
          wgmma(products, wgmma_tile_along_columns(queries + at), wgmma_tile_along_columns(keys + at), i > 0);
        }
        wgmma_commit();
      }
      const HeadSums sums(g);
      if (warp == 0) {
        sums.store_factors(
            reinterpret_cast<float*>(memory + in_ring * Shape::STAGE_BYTES + Shape::FACTOR_PLACE), reverse);
      }
      if constexpr (Shape::EMITS) {
        wgmma_wait<0>();
        pin_registers(products);
        store_scores(products, sums, stage + Shape::SCORE_PLACE, reverse);
        fence_shared_for_tensor_cores();
      } else {
        decay *= power_of_two(sums.total);
      }
      barrier_arrive_of_warp(full + 8 * in_ring, lane);
    };
    constexpr int LAG = STAGES - 2;
    for (int step = 0; step < segment.chunks; ++step) {
      if (step >= STAGES) barrier_wait(empty + 8 * (step % STAGES), (step / STAGES - 1) & 1);
      start(step);
      if (step >= LAG) finish(step - LAG, std::integral_constant<int, LAG>());
    }
    for (int step = max(0, segment.chunks - LAG); step < segment.chunks; ++step) {
      finish(step, std::integral_constant<int, 0>());
    }
    if (!Shape::EMITS && tile == 0 && part == 0 && threadIdx.x == 0) {
      w.segment_decays[slot * p.kv_heads + head] = decay;
    }
    sync_cluster();  // no block leaves while the other sends it sums
    return;
  }

  take_registers<Shape::CONSUMER_REGISTERS>();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
  const int in_warpgroup = (static_cast<int>(threadIdx.x) / 32 & 3) * 16;
  const int warp_row = row0 + warpgroup * PANEL + in_warpgroup;
  const auto of_slot = [&](auto* states, int64_t s) {
    return states + (s * p.kv_heads + head) * w.rows * w.columns;
  };
  const auto place = [&](int row, int column) {  // in a state [K, V]
    column += part * COLUMNS;
    return w.of_keys ? static_cast<int64_t>(row) * w.columns + column
                     : static_cast<int64_t>(column) * w.rows + row;
  };
  const auto fragments_of = [&](int64_t s) {
    const int64_t block = ((s * p.kv_heads + head) * PARTS + part) * tiles + tile;
    return reinterpret_cast<float4*>(w.segment_states) + (block * 2 + warpgroup) * (COLUMNS / 8) * 128 +
           (threadIdx.x & 127);
  };
  float x[COLUMNS / 2] = {};
  if (Shape::EMITS) {
    const int64_t start_slot = w.start.read != nullptr ? w.start.of_sequence[segment.sequence] : -1;
    if (start_slot >= 0) {
      const float* from = of_slot(w.start.read, start_slot);
      visit_state<COLUMNS / 2>(warp_row, w.rows, columns, [&](int i, int row, int column) {
        x[i] = w.start_factor * from[place(row, column)];
      });
    }
    const int before = reverse ? segment.segments - 1 - segment.index : segment.index;
    for (int j = before; j > 0; --j) {
      const int64_t other = reverse ? slot + j : slot - j;
      const float4* from = fragments_of(other);
      const float decay = w.segment_decays[other * p.kv_heads + head];
#pragma unroll
      for (int t = 0; t < COLUMNS / 8; ++t) {
        const float4 add = from[t * 128];
        x[4 * t] = x[4 * t] * decay + add.x, x[4 * t + 1] = x[4 * t + 1] * decay + add.y;
        x[4 * t + 2] = x[4 * t + 2] * decay + add.z, x[4 * t + 3] = x[4 * t + 3] * decay + add.w;
      }
    }
  }
  bfloat16* const to =
      w.to.data + segment.first_token * w.to.stride + static_cast<int64_t>(head) * w.rows + warp_row;
  for (int step = 0; step < segment.chunks; ++step) {
    const int in_ring = step % STAGES, chunk = chunk_of_step(step);
    const uint32_t stage = stages + in_ring * Shape::STAGE_BYTES;
    const float* factors =
        reinterpret_cast<const float*>(memory + in_ring * Shape::STAGE_BYTES + Shape::FACTOR_PLACE);
    const uint32_t values = stage + Shape::VALUE_PLACE + warpgroup * Shape::PANEL_BYTES;
    barrier_wait(full + 8 * in_ring, (step / STAGES) & 1);
    float out[CHUNK / 2];
    // No product runs while X decays: the compiler would wait for it at every step. And a panel of factors at
    // a time is what registers hold beside the largest X.
    constexpr int BATCH = Shape::PANELS == 2 ? 2 : 1;
#pragma unroll
    for (int first = 0; first < Shape::PANELS; first += BATCH) {
      uint32_t packed[BATCH][4][4];
#pragma unroll
      for (int i = 0; i < BATCH; ++i) {
        const int panel = first + i;
        if constexpr (Shape::EMITS) pack_panel(packed[i], x, panel);
        decay_panel(x, factors[HEAD_DECAY], panel);
      }
      wgmma_fence();
      if constexpr (Shape::EMITS) {
#pragma unroll
        for (int i = 0; i < 4 * BATCH; ++i) {
          const uint32_t tile = stage + Shape::EMIT_PLACE + (first + i / 4) * Shape::PANEL_BYTES + i % 4 * 32;
          wgmma(out, packed[i / 4][i % 4], wgmma_tile_along_columns(tile), first + i > 0);
        }
        if (first + BATCH < Shape::PANELS) {
          wgmma_commit();
          wgmma_wait<0>();
          pin_registers(out);
        }
      }
    }
    if constexpr (Shape::EMITS) {
      const uint32_t scores = stage + Shape::SCORE_PLACE;
      add_scored_rows<Shape, 0>(out, values, scores);
      add_scored_rows<Shape, 1>(out, values, scores);
      add_scored_rows<Shape, 2>(out, values, scores);
      add_scored_rows<Shape, 3>(out, values, scores);
      wgmma_commit();
    }
    // Nor do they hold, while these products run, the factors of the update.
    constexpr bool OUT_FIRST = Shape::EMITS && Shape::PANELS > 2;
    if constexpr (OUT_FIRST) {
      wgmma_wait<0>();
      pin_registers(out);
    }
    // W with its factors, and the rounding errors of the tokens that decay least on their way.
    uint32_t scaled[CHUNK / 16][4], errors[4];
    const int low = reverse ? 0 : CHUNK / 16 - 1;
#pragma unroll
    for (int i = 0; i < CHUNK / 16; ++i) {
      uint32_t of_step[4];
      fragment_a_stored_km(scaled[i], values, in_warpgroup, 16 * i);
      scale_values(scaled[i], of_step, factors + UPDATE_FACTORS + 16 * i);
#pragma unroll
      for (int e = 0; e < 4; ++e) errors[e] = i == low ? of_step[e] : i == 0 ? 0 : errors[e];
    }
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < CHUNK / 16; ++i) {
      wgmma<1>(x, scaled[i], wgmma_tile_along_rows(stage + 16 * i * PANEL_ROW_BYTES, Shape::PANEL_BYTES));
    }
    wgmma<1>(x, errors, wgmma_tile_along_rows(stage + 16 * low * PANEL_ROW_BYTES, Shape::PANEL_BYTES));
    wgmma_commit();
    if constexpr (Shape::EMITS) {
      if constexpr (!OUT_FIRST) {
        wgmma_wait<1>();
        pin_registers(out);
      }
      const int64_t left = segment.tokens - static_cast<int64_t>(chunk) * CHUNK;
      const auto store = [&](const auto& sums, int token0) {
        store_emitted(sums, factors + EMIT_FACTORS, w, to + chunk * CHUNK * w.to.stride, warp_row, token0,
                      static_cast<int>(left < CHUNK ? left : CHUNK));
      };
      if constexpr (Shape::PARTS) {
        float sums[CHUNK / 4];
        exchange_halves(sums, out, stages + Shape::EXCHANGE_PLACE, arrived, part, step);
        store(sums, part * CHUNK / 2);
      } else {
        store(out, 0);
      }
    }
    wgmma_wait<0>();
    pin_registers(x);
    barrier_arrive_of_warp(empty + 8 * in_ring, lane);
  }
  if constexpr (!Shape::EMITS) {
    float4* end = fragments_of(slot);
#pragma unroll
    for (int t = 0; t < COLUMNS / 8; ++t) {
      end[t * 128] = make_float4(x[4 * t], x[4 * t + 1], x[4 * t + 2], x[4 * t + 3]);
    }
  } else {
    const int64_t end_slot = is_last && w.end.written != nullptr ? w.end.of_sequence[segment.sequence] : -1;
    if (end_slot >= 0) {
      float* end = of_slot(w.end.written, end_slot);
      visit_state<COLUMNS / 2>(warp_row, w.rows, columns, [&](int i, int row, int column) {
        end[place(row, column)] = w.end_factor * x[i];
      });
    }
  }
  sync_cluster();
}

// blocks of threads, in clusters of `cluster`: whole ones, with a block more where they are odd.
template <class... Parameters, class... Arguments>
void launch_walk_blocks(void (*kernel)(Parameters...), int64_t blocks, int cluster, int bytes, Stream stream,
                        const Arguments&... arguments) {
  if (blocks == 0) return;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>((blocks + cluster - 1) / cluster * cluster));
  config.blockDim = dim3(WALK_THREADS), config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = stream, config.attrs = &attribute, config.numAttrs = 1;
  SLUICE_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
  SLUICE_CHECK_LAUNCH("gated_linear_attention walk of heads");
}
template <class Kernel>
void allow_walk_bytes(Kernel kernel, int bytes) {
  SLUICE_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

}  // namespace sluice::kernels::gla
