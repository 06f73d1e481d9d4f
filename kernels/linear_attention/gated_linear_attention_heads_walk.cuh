// The walk of heads that decay as a whole: X = e^bC X + (factors W)^T hat in the registers of two warpgroups,
// and from it, chunk by chunk, out^T = X emit^T + W^T P^T (in reverse with P). A third warpgroup has rows
// copied ahead and makes the scores P and the factors.
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
  // A stage's barriers: its rows are there; its scores and factors, too; all that is used up.
  const uint32_t stages = shared_address(memory), copied = stages + Shape::BARRIER_PLACE;
  const uint32_t full = copied + 8 * STAGES, empty = full + 8 * STAGES;
  [[maybe_unused]] const uint32_t arrived = empty + 8 * STAGES;  // sums of the other part
  const int part = static_cast<int>(index % PARTS);
  const unsigned tiles = (w.rows + VALUES - 1) / VALUES, tile = index / PARTS % tiles;
  const int row0 = static_cast<int>(tile) * VALUES;
  const int head = static_cast<int>(index / PARTS / tiles % p.kv_heads);
  const int64_t slot = index / PARTS / tiles / p.kv_heads;
  const int columns = w.columns - part * COLUMNS;
  const bool reverse = Shape::EMITS ? Shape::MODE == HeadMode::kReverse : w.reverse;
  Segment segment;
  const bool leads = Shape::LEADS && w.leads;
  if (!(leads ? leading_segment(segment, p, w, slot) : segment_of_slot(segment, p, w.segment_chunks, slot)))
    return;
  const bool is_last = segment.index == (reverse ? 0 : segment.segments - 1);
  if (!Shape::EMITS && is_last) return;
  const int lead = leads ? static_cast<int>(segment.index * w.segment_chunks) : 0;  // chunks, from here on
  segment.first_token -= static_cast<int64_t>(lead) * CHUNK;                        // part of the segment
  segment.tokens += static_cast<int64_t>(lead) * CHUNK, segment.chunks += lead;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      barrier_init(copied + 8 * i, 1);
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
  const auto tokens_of = [&](int chunk) {
    const int64_t left = segment.tokens - static_cast<int64_t>(chunk) * CHUNK;
    return static_cast<int>(left < CHUNK ? left : CHUNK);
  };
  const int lane = threadIdx.x & 31;

  if (threadIdx.x < PRODUCERS) {
    give_back_registers<Shape::PRODUCER_REGISTERS>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const auto start = [&](int step) {
      const uint32_t stage = stages + step % STAGES * Shape::STAGE_BYTES;
      const uint32_t barrier = copied + 8 * (step % STAGES);
      const int chunk = chunk_of_step(step), tokens = tokens_of(chunk);
      const int64_t token = segment.first_token + static_cast<int64_t>(chunk) * CHUNK;
      const bool emits = Shape::EMITS && step >= lead;
      if (tokens == CHUNK) {
        if (threadIdx.x == 0) {
          barrier_arrive_for_bytes(barrier, emits ? Shape::EMIT_ROW_BYTES : Shape::ROW_BYTES);
          copy_head_rows<COLUMNS>(stage, w.hat.map, part * COLUMNS, head, token, barrier);
          if (emits) {
            copy_head_rows<COLUMNS>(stage + Shape::EMIT_PLACE, w.emit.map, part * COLUMNS, head, token,
                                    barrier);
          }
          copy_head_rows<VALUES>(stage + Shape::VALUE_PLACE, w.values.map, row0, head, token, barrier);
        }
        __syncwarp();
      } else {
        const auto copy = [&](int place, const Rows& rows, int size, int first, auto copied_columns) {
          copy_rows<decltype(copied_columns)::value>(
              stage + place, rows.data + token * rows.stride + static_cast<int64_t>(head) * size + first,
              rows.stride, tokens, size - first);
        };
        constexpr std::integral_constant<int, COLUMNS> kColumns;
        copy(0, w.hat.rows, w.columns, part * COLUMNS, kColumns);
        if (emits) copy(Shape::EMIT_PLACE, w.emit.rows, w.columns, part * COLUMNS, kColumns);
        copy(Shape::VALUE_PLACE, w.values.rows, w.rows, row0, std::integral_constant<int, VALUES>());
        commit_copies();
        wait_for_copies<0>();
        fence_shared_for_tensor_cores();
        sync_producers();  // all of them have their rows
        if (threadIdx.x == 0) barrier_arrive(barrier);
        __syncwarp();
      }
    };
    float g[2];
    const auto read_gates = [&](int step) {
      const int chunk = chunk_of_step(step), tokens = step < segment.chunks ? tokens_of(chunk) : 0;
      const int64_t token = segment.first_token + static_cast<int64_t>(chunk) * CHUNK + 2 * lane;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        g[e] = 2 * lane + e < tokens ? head_gate(p.head_gates, token + e, head) : 0.0f;
      }
    };
    float decay = 1.0f;
    const auto finish = [&](int step) {
      const int in_ring = step % STAGES;
      [[maybe_unused]] const uint32_t stage = stages + in_ring * Shape::STAGE_BYTES;
      const HeadSums sums(g);
      barrier_wait(copied + 8 * in_ring, (step / STAGES) & 1);
      read_gates(step + 1);  // while there is other work
      float* const factors =
          reinterpret_cast<float*>(memory + in_ring * Shape::STAGE_BYTES + Shape::FACTOR_PLACE);
      if (Shape::EMITS && step >= lead) {
        const uint32_t queries = stage + (reverse ? 0 : Shape::EMIT_PLACE);
        const uint32_t keys = stage + (reverse ? Shape::EMIT_PLACE : 0);
        float products[CHUNK / 2];
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < COLUMNS / 16; ++i) {
          const uint32_t at = i / 4 * Shape::PANEL_BYTES + i % 4 * 32;
          wgmma(products, wgmma_tile_along_columns(queries + at), wgmma_tile_along_columns(keys + at), i > 0);
        }
        wgmma_commit();
        if (warp == 0) sums.store_factors(factors, reverse);
        wgmma_wait<0>();
        pin_registers(products);
        store_scores(products, sums, stage + Shape::SCORE_PLACE, reverse);
        fence_shared_for_tensor_cores();
      } else if (warp == 0) {
        sums.store_factors(factors, reverse);
      }
      if constexpr (!Shape::EMITS) decay *= power_of_two(sums.total);
      barrier_arrive_of_warp(full + 8 * in_ring, lane);
    };
    // As long as the consumers take over a chunk, one is on its way and the one between gets its scores.
    constexpr int LAG = STAGES - 2;
    read_gates(0);
    for (int step = 0; step < segment.chunks + LAG; ++step) {
      if (step < segment.chunks) {
        if (step >= STAGES) barrier_wait(empty + 8 * (step % STAGES), (step / STAGES - 1) & 1);
        start(step);
      }
      if (step >= LAG) finish(step - LAG);
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
    const int before = leads ? 0 : reverse ? segment.segments - 1 - segment.index : segment.index;
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
  const auto advance = [&](int step, auto whether_it_emits) {
    constexpr bool EMITS = decltype(whether_it_emits)::value;
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
        if constexpr (EMITS) pack_panel(packed[i], x, panel);
        decay_panel(x, factors[HEAD_DECAY], panel);
      }
      wgmma_fence();
      if constexpr (EMITS) {
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
    if constexpr (EMITS) {
      const uint32_t scores = stage + Shape::SCORE_PLACE;
      add_scored_rows<Shape, 0>(out, values, scores);
      add_scored_rows<Shape, 1>(out, values, scores);
      add_scored_rows<Shape, 2>(out, values, scores);
      add_scored_rows<Shape, 3>(out, values, scores);
      wgmma_commit();
    }
    // Nor do they hold, while these products run, the factors of the update.
    constexpr bool OUT_FIRST = EMITS && Shape::PANELS > 2;
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
    if constexpr (EMITS) {
      if constexpr (!OUT_FIRST) {
        wgmma_wait<1>();
        pin_registers(out);
      }
      const auto store = [&](const auto& sums, int token0) {
        store_emitted(sums, factors + EMIT_FACTORS, w, to + chunk * CHUNK * w.to.stride, warp_row, token0,
                      tokens_of(chunk));
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
  };
  if constexpr (Shape::LEADS) {
    for (int step = 0; step < lead; ++step) advance(step, std::false_type());
  }
  for (int step = lead; step < segment.chunks; ++step) advance(step, std::bool_constant<Shape::EMITS>());
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
