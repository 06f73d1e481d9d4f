// X = X decay + W^T hat along a sequence in the registers of two warpgroups, and from it, chunk by chunk,
//   O^T = X emit_hat^T + W^T P^T    (in reverse with P),
// a third warpgroup copying ahead. README.md has the data flow.
#pragma once

#include "kernels/linear_attention/gated_linear_attention_fused_exchange.cuh"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.cuh"

namespace sluice::kernels::gla {

inline constexpr int WALK_THREADS = PRODUCERS + CONSUMERS;

// One block a slot of segments, kv head, 128 rows of X, and part. Rows of X lie in W, and are values or keys:
// p.value_size of them.
template <class Shape>
__device__ __forceinline__ void walk_block(const Chunked& p, const FusedWalk& w, unsigned index) {
  constexpr WalkMode MODE = Shape::MODE;
  constexpr int COLUMNS = Shape::COLUMNS, PARTS = Shape::PARTS ? 2 : 1;
  extern __shared__ __align__(1024) unsigned char memory[];
  const uint32_t stages = shared_address(memory), full = stages + Shape::BARRIER_PLACE;
  const uint32_t empty = full + 8 * Shape::STAGES;
  [[maybe_unused]] const uint32_t arrived = empty + 8 * Shape::STAGES;  // sums of the other part
  const int part = static_cast<int>(index % PARTS);
  index /= PARTS;
  const int K = p.key_size, V = p.value_size;
  const unsigned tiles = (V + VALUES - 1) / VALUES;
  const unsigned tile = index % tiles;
  const int v0 = static_cast<int>(tile) * VALUES, head = static_cast<int>(index / tiles % p.kv_heads);
  const int64_t slot = index / tiles / p.kv_heads;
  // Of a slot's or chunk's states, counting parts.
  const auto state_of = [&](int64_t of) {
    const int64_t state = of * p.kv_heads + head;
    return Shape::PARTS ? state * PARTS + part : state;
  };
  Segment segment;
  if (!segment_of_slot(segment, p, w.segment_chunks, slot)) return;
  const bool is_last = segment.index == (w.reverse ? 0 : segment.segments - 1);
  if (MODE == WalkMode::kUpdate && is_last) return;
  const int block = block_of_cluster(), cluster_blocks = blocks_of_cluster();
  const int sharing_blocks = Shape::ALONE ? 1 : cluster_blocks;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::STAGES; ++i) {
      barrier_init(full + 8 * i, PRODUCERS / 32 + 1);
      barrier_init(empty + 8 * i, CONSUMERS / 32 * sharing_blocks);
    }
    if constexpr (Shape::EXCHANGE_BYTES > 0) {
      for (int i = 0; i < 2 * EXCHANGE_WARPS; ++i) barrier_init(arrived + 8 * i, 1);
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
      __syncwarp();
      if (lane == 0) barrier_arrive(full + 8 * (step % Shape::STAGES));
    };
    for (int step = 0; step < segment.chunks; ++step) {
      const int stage = step % Shape::STAGES;
      if (step >= Shape::STAGES) barrier_wait(empty + 8 * stage, (step / Shape::STAGES - 1) & 1);
      const int chunk = chunk_of_step(step);
      const int64_t left = segment.tokens - static_cast<int64_t>(chunk) * CHUNK;
      if (threadIdx.x == 0) {
        copy_shared_tiles<Shape>(stages + stage * Shape::STAGE_BYTES, full + 8 * stage, p, w,
                                 state_of(segment.first_chunk + chunk), block, sharing_blocks);
      }
      copy_values(stages + stage * Shape::STAGE_BYTES + Shape::VALUE_PLACE,
                  values + chunk * CHUNK * w.values.stride, w.values.stride,
                  static_cast<int>(left < CHUNK ? left : CHUNK), V - v0);
      if constexpr (Shape::OF_KEYS) {
        const Rows& emit = w.gradient.emit;
        const bfloat16* from = emit.data + (segment.first_token + chunk * CHUNK) * emit.stride +
                               static_cast<int64_t>(head) * K + part * COLUMNS;
        copy_values<COLUMNS>(stages + stage * Shape::STAGE_BYTES + Shape::EMIT_PLACE, from, emit.stride,
                             static_cast<int>(left < CHUNK ? left : CHUNK), K - part * COLUMNS);
      }
      commit_copies();
      wait_for_copies<Shape::STAGES - 2>();
      if (step >= Shape::STAGES - 2) signal(step - (Shape::STAGES - 2));
    }
    wait_for_copies<0>();
    for (int step = max(0, segment.chunks - (Shape::STAGES - 2)); step < segment.chunks; ++step) signal(step);
    if (MODE == WalkMode::kUpdate && tile == 0) {
      for (int key = static_cast<int>(threadIdx.x); key < COLUMNS; key += PRODUCERS) {
        float decay = 1.0f;
#pragma unroll 4
        for (int i = 0; i < segment.chunks; ++i) {
          decay *= p.decay[state_of(segment.first_chunk + i) * COLUMNS + key];
        }
        w.segment_decays[state_of(slot) * COLUMNS + key] = decay;
      }
    }
    sync_cluster();  // no block leaves while others arrive at its barriers
    return;
  }

  take_registers<232>();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128 - 1;
  const int warp_values = v0 + warpgroup * PANEL + (static_cast<int>(threadIdx.x) / 32 & 3) * 16;
  // Element (row, column) of X in a state [K, V].
  const int columns = Shape::OF_KEYS ? K - part * COLUMNS : K;
  const auto of_slot = [&](auto* states, int64_t s) {
    return states + (s * p.kv_heads + head) * K * V + (Shape::OF_KEYS ? part * COLUMNS : 0);
  };
  const auto place = [&](int row, int column) {
    return Shape::OF_KEYS ? static_cast<int64_t>(row) * K + column : static_cast<int64_t>(column) * V + row;
  };
  const auto fragments_of = [&](int64_t s) {
    return reinterpret_cast<float4*>(w.segment_states) +
           (((state_of(s) * tiles + tile) * 2 + warpgroup) * (COLUMNS / 8)) * 128 + (threadIdx.x & 127);
  };
  float x[COLUMNS / 2] = {};
  if (MODE != WalkMode::kUpdate) {
    const int64_t start_slot = w.start.read != nullptr ? w.start.of_sequence[segment.sequence] : -1;
    if (start_slot >= 0) {
      const float* from = of_slot(w.start.read, start_slot);
      visit_state<COLUMNS / 2>(warp_values, V, columns, [&](int i, int row, int column) {
        x[i] = w.start_factor * from[place(row, column)];
      });
    }
    const int before = w.reverse ? segment.segments - 1 - segment.index : segment.index;
    for (int j = before; j > 0; --j) {
      const int64_t other = w.reverse ? slot + j : slot - j;
      const float4* from = fragments_of(other);
      const float* decay = w.segment_decays + state_of(other) * COLUMNS + 2 * (lane & 3);
#pragma unroll
      for (int t = 0; t < COLUMNS / 8; ++t) {
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
    const int64_t chunk_head = (segment.first_chunk + chunk) * p.kv_heads + head;
    // Where the thread's part of this chunk's state lies, among the rows of X in all blocks.
    [[maybe_unused]] const int64_t block_of_state = state_of(segment.first_chunk + chunk) * tiles + tile;
    if constexpr (Shape::GATED && MODE == WalkMode::kKeys) {
      const float dot = dot_with_state<Shape>(x, w.gradient.head_gate.states, block_of_state, warpgroup);
      if (lane == 0)
        w.gradient.head_gate.dots[block_of_state * 8 + static_cast<int>(threadIdx.x) / 32 - 4] = dot;
    }
    barrier_wait(full + 8 * in_ring, (step / Shape::STAGES) & 1);
    float out[CHUNK / 2];
    if constexpr (Shape::GATED && MODE == WalkMode::kQueries) {
      store_state<Shape>(x, w.gradient.head_gate.states, block_of_state, warpgroup);
      pin_registers(x);
    }
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
        if constexpr (Shape::OF_KEYS) {
          decay_panel(x, decay[CHUNK], panel);
        } else {
          decay_panel(x, decay, panel);
        }
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
      const uint32_t scores = stage + Shape::SCORE_PLACE;
      add_scored_values<Shape, 0>(out, values, scores);
      add_scored_values<Shape, 1>(out, values, scores);
      add_scored_values<Shape, 2>(out, values, scores);
      add_scored_values<Shape, 3>(out, values, scores);
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
      const int rows = static_cast<int>(left < CHUNK ? left : CHUNK);
      bfloat16* const to_chunk = to + chunk * CHUNK * w.to.stride;
      if constexpr (Shape::OF_KEYS) {
        const auto store = [&](const auto& sums, int token0) {
          store_gradient<Shape>(sums, decay, p, w, to_chunk, segment.first_token + chunk * CHUNK, chunk_head,
                                head, warp_values, token0, rows);
        };
        if constexpr (Shape::PARTS) {
          float sums[CHUNK / 4];
          exchange_halves(sums, out, stages + Shape::EXCHANGE_PLACE, arrived, part, step);
          store(sums, part * CHUNK / 2);
        } else {
          store(out, 0);
        }
      } else {
        store_transposed<Shape::FLIPPED>(out, p.factor, to_chunk, w.to.stride, rows,
                                         w.to.data != nullptr ? V - warp_values : 0);
      }
    }
    wgmma_wait<0>();
    pin_registers(x);
    if constexpr (Shape::ALONE) {
      if (lane == 0) barrier_arrive(empty + 8 * in_ring);
    } else {
      if (lane < cluster_blocks) barrier_arrive_at(empty + 8 * in_ring, lane);
    }
  }
  if constexpr (MODE == WalkMode::kUpdate) {
    float4* end = fragments_of(slot);
#pragma unroll
    for (int t = 0; t < COLUMNS / 8; ++t) {
      end[t * 128] = make_float4(x[4 * t], x[4 * t + 1], x[4 * t + 2], x[4 * t + 3]);
    }
  } else if constexpr (!Shape::OF_KEYS) {
    const int64_t end_slot = is_last && w.end.written != nullptr ? w.end.of_sequence[segment.sequence] : -1;
    if (end_slot >= 0) {
      float* end = of_slot(w.end.written, end_slot);
      visit_state<COLUMNS / 2>(warp_values, V, columns, [&](int i, int row, int column) {
        end[place(row, column)] = w.end_factor * x[i];
      });
    }
  }
  sync_cluster();
}

}  // namespace sluice::kernels::gla
