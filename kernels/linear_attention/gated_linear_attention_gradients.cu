// dq, dk and dg of a chunk from the states around it: one pass over both, which is most of what backward
// reads.
#include <type_traits>

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_gradients.cuh"

namespace sluice::kernels::gla {
namespace {

using namespace gradient;

// GROUPED: several query heads share a kv head. FRAGMENTS: states are StateFragments, not [K, V]. One block a
// chunk, kv head and KEYS columns of the keys.
template <bool GROUPED, bool FRAGMENTS>
__global__ void __launch_bounds__(THREADS, 2)
    gradients(const __grid_constant__ Chunked p, const OutRows dq_out, const OutRows dk_out,
              const OutRows dg_out) {
  extern __shared__ __align__(128) unsigned char memory[];
  using Layout = Shared<GROUPED>;
  constexpr int STAGES = Layout::STAGES;
  Layout& shared = *reinterpret_cast<Layout*>(memory);
  const int K = p.key_size, V = p.value_size;
  const unsigned tiles = (K + KEYS - 1) / KEYS;
  const int k0 = static_cast<int>(blockIdx.x % tiles) * KEYS, columns = min(KEYS, K - k0);
  const int kv_head = static_cast<int>(blockIdx.x / tiles % p.kv_heads);
  const int64_t c = blockIdx.x / tiles / p.kv_heads;
  const ChunkSpan span = p.spans[c];
  const int rows = static_cast<int>(span.rows);
  const int warp = static_cast<int>(threadIdx.x) >> 5, in_role = warp % ROLE_WARPS;
  const bool of_keys = warp >= ROLE_WARPS;
  const int row0 = (in_role & 1) * 32, column0 = (in_role >> 1) * 32;
  // The elementwise part's place.
  const int in_tile = static_cast<int>(threadIdx.x) % (KEYS / 2) * 2,
            segment = static_cast<int>(threadIdx.x) / (KEYS / 2);
  const bool active = in_tile < columns;
  const int first_row = segment * SEGMENT_ROWS;
  const auto at = [&](const auto& rows_of, int head) {
    return rows_of.data + span.first * rows_of.stride + static_cast<int64_t>(head) * K + k0 +
           (active ? in_tile : 0);
  };
  const int64_t state = FRAGMENTS ? first_piece(p.fragments, c * p.kv_heads + kv_head, k0 / KEYS, 0) * 8
                                  : ((c * p.kv_heads + kv_head) * K + k0) * V;
  const auto copy_state = [&](unsigned char* to, const bfloat16* states, int v0) {
    if constexpr (FRAGMENTS) {
      const bfloat16* from = states + state + v0 * KEYS + threadIdx.x * 8;
#pragma unroll
      for (int i = 0; i < PANEL_BYTES; i += THREADS * 16) {
        copy_async_16(shared_address(to) + i + threadIdx.x * 16, from + i / 2, true);
      }
    } else {
      copy_panel<KEYS, THREADS>(shared_address(to), states + state + v0, V, columns, V - v0);
    }
  };

  // dP = tril(dO V^T) beside the rest where all of dO and v comes by: a tile of 32 x 16 a warp.
  constexpr bool OWN_SCORES = !GROUPED;
  const int scores_column = (warp >> 1) * 16;
  const bool scores_above = scores_column > row0 + 31;
  [[maybe_unused]] float scores[2][2][4] = {};
  float sums[2][4][4] = {};
  float across[FRAGMENTS ? 2 : 1] = {};    // parts of rowsum_V(S . dS) of two rows, or one
  float d_gate[SEGMENT_ROWS][2] = {};      // q . dq, summed over the group
  float d_diagonal[SEGMENT_ROWS][2] = {};  // dk from a token's own output
  Gates gates;
  uint32_t k[SEGMENT_ROWS];
  bool by_terms = false, by_segments = false;
  const int own_middles = segment * KEYS + in_tile;
  const auto middle_of = [&](int e) {
    return by_segments ? static_cast<float>(shared.middles[own_middles + e]) : gates.middle(e);
  };
  const int group = GROUPED ? p.group : 1;
  for (int r = 0; r < group; ++r) {
    const int head = kv_head * p.group + r;
    const int steps = (V + PANEL - 1) / PANEL;
    const bfloat16* d_o = p.d_o.data + span.first * p.d_o.stride + static_cast<int64_t>(head) * V;
    const bfloat16* v = p.v.data + span.first * p.v.stride + static_cast<int64_t>(kv_head) * V;
    const auto load = [&](int step) {
      if (step < steps) {
        Stage& stage = shared.stages[step % STAGES];
        const int v0 = step * PANEL;
        copy_panel<CHUNK, THREADS>(shared_address(stage.d_o), d_o + v0, p.d_o.stride, rows, V - v0);
        copy_state(stage.state, p.states, v0);
        if (r == 0) {
          copy_panel<CHUNK, THREADS>(shared_address(stage.v), v + v0, p.v.stride, rows, V - v0);
          copy_state(stage.d_state, p.d_states, v0);
        }
      }
      commit_copies();
    };
    if (!of_keys) visit_tile(sums, row0, column0, [](float& x, float& y, int, int) { x = y = 0.0f; });
    for (int step = 0; step < STAGES - 1; ++step) load(step);
    if (r == 0) {
      gates = gates_of_chunk<KEYS>(p.g.data != nullptr && active ? at(p.g, kv_head) : nullptr, p.g.stride,
                                   rows, in_tile, segment, shared.sums);
      by_terms = __syncthreads_or(!gates.in_range());
      if (by_terms) {
        const int2 middles =
            gates.segment_middles(*reinterpret_cast<const float2*>(shared.gate_sums + own_middles));
        *reinterpret_cast<int2*>(shared.middles + own_middles) = middles;
        by_terms = __syncthreads_or(!gates.segment_in_range(middles));
        by_segments = !by_terms;
      }
    }
    for (int step = 0; step < steps; ++step) {
      wait_for_copies<STAGES - 2>();
      __syncthreads();
      load(step + STAGES - 1);
      const Stage& stage = shared.stages[step % STAGES];
      if (r == 0) {
        const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint32_t offset =
              FRAGMENTS ? (thread + i * THREADS) * 16 : piece_address(0, thread >> 2, (thread & 3) * 2 + i);
          add_products(across, *reinterpret_cast<const uint4*>(stage.state + offset),
                       *reinterpret_cast<const uint4*>(stage.d_state + offset));
        }
      }
      if (r > 0 && of_keys) continue;
      const uint32_t o_tile = shared_address(stage.d_o), v_tile = shared_address(stage.v);
      const uint32_t b_tile = shared_address(of_keys ? stage.d_state : stage.state);
#pragma unroll
      for (int k = 0; k < PANEL; k += 16) {
        uint32_t a[2][4], b[2][4];
#pragma unroll
        for (int m = 0; m < 2; ++m) fragment_a_stored_mk(a[m], of_keys ? v_tile : o_tile, row0 + 16 * m, k);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          if constexpr (FRAGMENTS) {
            const unsigned char* tile = of_keys ? stage.d_state : stage.state;
            const uint4 piece = *reinterpret_cast<const uint4*>(
                tile + ((k / 4 + column0 / 16 + n) * 32 + (threadIdx.x & 31)) * 16);
            b[n][0] = piece.x, b[n][1] = piece.y, b[n][2] = piece.z, b[n][3] = piece.w;
          } else {
            fragment_b_stored_nk(b[n], b_tile, k, column0 + 16 * n);
          }
        }
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int t = 0; t < 4; ++t)
            mma_m16n8k16(sums[m][t], a[m], b[t / 2][t % 2 * 2], b[t / 2][t % 2 * 2 + 1]);
        }
        if constexpr (OWN_SCORES) {
          if (scores_above) continue;
          if (of_keys) {
#pragma unroll
            for (int m = 0; m < 2; ++m) fragment_a_stored_mk(a[m], o_tile, row0 + 16 * m, k);
          }
          fragment_b_stored_nk(b[0], v_tile, k, scores_column);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            mma_m16n8k16(scores[m][0], a[m], b[0][0], b[0][1]);
            mma_m16n8k16(scores[m][1], a[m], b[0][2], b[0][3]);
          }
        }
      }
    }
    wait_for_copies<0>();
    __syncthreads();  // the stages become what lies in their place
    if constexpr (OWN_SCORES) {
      const auto store = [&](float score, int row, int column) {
        score = to_tf32(score);
        if (column == row) shared.diagonal[row] = score;
        shared.d_scores[row * SCORES_ROW + column] = column < row ? score : 0.0f;
      };
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        if (!scores_above)
          store(scores[i / 8][i / 4 % 2][i % 4],
                row0 + 16 * (i / 8) + 8 * (i / 2 % 2) + ((threadIdx.x & 31) >> 2),
                scores_column + 8 * (i / 4 % 2) + 2 * (threadIdx.x & 3) + i % 2);
      }
    } else {
      const float* d_scores = p.d_scores + (c * p.heads + head) * CHUNK * CHUNK;
      for (int i = static_cast<int>(threadIdx.x) * 4; i < CHUNK * CHUNK; i += THREADS * 4) {
        copy_async_16(shared_address(shared.d_scores + i / CHUNK * SCORES_ROW + i % CHUNK), d_scores + i,
                      true);
      }
      commit_copies();
    }

    if (r == 0) {
      if constexpr (FRAGMENTS) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          across[i] += __shfl_xor_sync(~0u, across[i], 1);
          across[i] += __shfl_xor_sync(~0u, across[i], 2);
          if ((threadIdx.x & 3) == 0) {
            shared.sums[warp / 4 * KEYS + warp % 4 * 16 + 8 * i + (threadIdx.x >> 2 & 7)] = across[i];
          }
        }
      } else {
        across[0] += __shfl_xor_sync(~0u, across[0], 1);
        across[0] += __shfl_xor_sync(~0u, across[0], 2);
        if ((threadIdx.x & 3) == 0) shared.across[threadIdx.x >> 2] = across[0];
      }
    }
    const float middle0 = by_terms ? 0.0f : middle_of(0), middle1 = by_terms ? 0.0f : middle_of(1);
    if (segment == 0) {
      shared.before[in_tile] = power_of_two(middle0);
      shared.before[in_tile + 1] = power_of_two(middle1);
    }
    uint32_t q[SEGMENT_ROWS];
    load_segment(q, at(p.q, head), p.q.stride, segment, active ? rows : 0);
    if (r == 0) load_segment(k, at(p.k, kv_head), p.k.stride, segment, active ? rows : 0);
    const auto write_factors = [&](auto terms) {
#pragma unroll
      for (int i = 0; i < SEGMENT_ROWS; ++i) {
        const int place = (first_row + i) * ROW + in_tile;
        float2 q_factor = unpack_bfloat16(q[i]), k_factor = unpack_bfloat16(k[i]);
        q_factor.x *= p.power, q_factor.y *= p.power;
        const float b0 = gates.b[i][0], b1 = gates.b[i][1];
        if constexpr (decltype(terms)::value) {
          *reinterpret_cast<float2*>(shared.inside.b + place) = make_float2(b0, b1);
        } else {
          q_factor.x = to_tf32(q_factor.x * power_of_two(b0 - middle0));
          q_factor.y = to_tf32(q_factor.y * power_of_two(b1 - middle1));
          k_factor.x = to_tf32(k_factor.x * power_of_two(middle0 - b0));
          k_factor.y = to_tf32(k_factor.y * power_of_two(middle1 - b1));
        }
        *reinterpret_cast<float2*>(shared.inside.q + place) = q_factor;
        *reinterpret_cast<float2*>(shared.inside.k + place) = k_factor;
      }
    };
    if (by_terms) {
      write_factors(std::true_type());
    } else {
      write_factors(std::false_type());
    }
    if (of_keys && r == 0) {
      visit_tile(sums, row0, column0, [&](float& x, float& y, int row, int column) {
        *reinterpret_cast<float2*>(shared.far() + row * ROW + column) = make_float2(x, y);
        x = y = 0.0f;
      });
    }
    if constexpr (!OWN_SCORES) {
      wait_for_copies<0>();
      for (int i = static_cast<int>(threadIdx.x) * 4; i < CHUNK * CHUNK; i += THREADS * 4) {
        const int row = i / CHUNK, to_diagonal = row - i % CHUNK;
        if (to_diagonal < 0 || to_diagonal >= 4) continue;
        float& score = shared.d_scores[row * SCORES_ROW + row];
        shared.diagonal[row] = score;
        score = 0.0f;
      }
    }
    __syncthreads();
    if (FRAGMENTS && r == 0 && threadIdx.x < KEYS) {
      shared.across[threadIdx.x] = shared.sums[threadIdx.x] + shared.sums[KEYS + threadIdx.x];
    }
    const float* factors = of_keys ? shared.inside.q : shared.inside.k;
    if (by_terms) {
      add_inside_by_terms(sums, shared.d_scores, factors, shared.inside.b, of_keys, row0, column0);
    } else {
      if (!of_keys) {
        visit_tile(sums, row0, column0, [&](float& x, float& y, int, int column) {
          x *= shared.before[column], y *= shared.before[column + 1];
        });
      }
      if (by_segments) {
        // Those of the group's heads before have come to their rows and stay there.
        const bool has_sums = GROUPED && of_keys && r > 0;
        if (has_sums) {
          visit_tile(sums, row0, column0, [&](float& x, float& y, int row, int column) {
            *reinterpret_cast<float2*>(shared.inside.b + row * ROW + column) = make_float2(x, y);
            x = y = 0.0f;
          });
        }
        add_inside_by_segments(sums, shared.d_scores, factors, shared.middles, of_keys, row0, column0);
        if (has_sums) {
          visit_tile(sums, row0, column0, [&](float& x, float& y, int row, int column) {
            const float2 before = *reinterpret_cast<const float2*>(shared.inside.b + row * ROW + column);
            x += before.x, y += before.y;
          });
        }
      } else {
        add_inside(sums, shared.d_scores, factors, of_keys, row0, column0);
      }
    }
    __syncthreads();
    float* summed = of_keys ? shared.inside.q : shared.inside.k;
    visit_tile(sums, row0, column0, [&](float x, float y, int row, int column) {
      *reinterpret_cast<float2*>(summed + row * ROW + column) = make_float2(x, y);
    });
    __syncthreads();
    bfloat16* dq = dq_out.data == nullptr ? nullptr : at(dq_out, head);
#pragma unroll
    for (int i = 0; i < SEGMENT_ROWS; ++i) {
      const int row = first_row + i;
      const float2 sum = *reinterpret_cast<const float2*>(shared.inside.k + row * ROW + in_tile);
      const float2 q_here = unpack_bfloat16(q[i]), k_here = unpack_bfloat16(k[i]);
      const float diagonal = shared.diagonal[row];
      const float dq0 = p.scale * sum.x * (by_terms ? 1.0f : power_of_two(gates.b[i][0] - middle0));
      const float dq1 = p.scale * sum.y * (by_terms ? 1.0f : power_of_two(gates.b[i][1] - middle1));
      d_gate[i][0] += q_here.x * dq0, d_gate[i][1] += q_here.y * dq1;
      d_diagonal[i][0] += p.scale * diagonal * q_here.x, d_diagonal[i][1] += p.scale * diagonal * q_here.y;
      if (dq == nullptr || !active || row >= rows) continue;
      *reinterpret_cast<uint32_t*>(dq + row * dq_out.stride) =
          pack_bfloat16(dq0 + p.scale * diagonal * k_here.x, dq1 + p.scale * diagonal * k_here.y);
    }
    if (r + 1 < group) __syncthreads();  // the next head's stages come where dq is
  }

  // dg of token t: pairs of a key before t and a query from t on. Both inside the chunk: the sum over tokens
  // from t on of q . dq - k . dk, in which pairs on one side of t cancel; the query behind the chunk: k . dk
  // of the tokens before t; the key before the chunk: in q . dq; both outside: the states' product.
  bfloat16* dk = dk_out.data == nullptr ? nullptr : at(dk_out, kv_head);
  const float middles[2] = {middle_of(0), middle_of(1)};
  float far[SEGMENT_ROWS][2];
  float sums_from[2] = {}, sums_before[2] = {};
#pragma unroll
  for (int i = 0; i < SEGMENT_ROWS; ++i) {
    const int row = first_row + i;
    const float2 near_sum = *reinterpret_cast<const float2*>(shared.inside.q + row * ROW + in_tile);
    const float2 far_sum = *reinterpret_cast<const float2*>(shared.far() + row * ROW + in_tile);
    const float2 k_here = unpack_bfloat16(k[i]);
    float dk_pair[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float b = gates.b[i][e], here = e == 0 ? k_here.x : k_here.y;
      const float near =
          p.factor * (e == 0 ? near_sum.x : near_sum.y) * (by_terms ? 1.0f : power_of_two(middles[e] - b));
      const float beyond = p.factor * (e == 0 ? far_sum.x : far_sum.y) * power_of_two(gates.total[e] - b);
      dk_pair[e] = near + beyond + d_diagonal[i][e];
      d_gate[i][e] -= here * near;
      far[i][e] = here * beyond;
      sums_from[e] += d_gate[i][e], sums_before[e] += far[i][e];
    }
    if (dk == nullptr || !active || row >= rows) continue;
    *reinterpret_cast<uint32_t*>(dk + row * dk_out.stride) = pack_bfloat16(dk_pair[0], dk_pair[1]);
  }
  if (dg_out.data == nullptr) return;
  float* from_sums = shared.sums + in_tile;
  float* before_sums = from_sums + SEGMENTS * KEYS;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    from_sums[segment * KEYS + e] = sums_from[e];
    before_sums[segment * KEYS + e] = sums_before[e];
  }
  __syncthreads();
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float from = 0.0f, before = 0.0f;
    for (int other = 0; other < SEGMENTS; ++other) {
      if (other > segment) from += from_sums[other * KEYS + e];
      if (other < segment) before += before_sums[other * KEYS + e];
    }
    before += p.factor * power_of_two(gates.total[e]) * shared.across[in_tile + e];
#pragma unroll
    for (int i = SEGMENT_ROWS - 1; i >= 0; --i) from += d_gate[i][e], d_gate[i][e] = from;
#pragma unroll
    for (int i = 0; i < SEGMENT_ROWS; ++i) d_gate[i][e] += before, before += far[i][e];
  }
  bfloat16* dg = at(dg_out, kv_head);
#pragma unroll
  for (int i = 0; i < SEGMENT_ROWS; ++i) {
    if (!active || first_row + i >= rows) continue;
    *reinterpret_cast<uint32_t*>(dg + (first_row + i) * dg_out.stride) =
        pack_bfloat16(d_gate[i][0], d_gate[i][1]);
  }
}

template <bool GROUPED, bool FRAGMENTS>
void launch_gradients(const Chunked& chunked, OutRows dq, OutRows dk, OutRows dg, Stream stream) {
  constexpr int kBytes = static_cast<int>(sizeof(Shared<GROUPED>));
  static const cudaError_t allowed = cudaFuncSetAttribute(
      gradients<GROUPED, FRAGMENTS>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  SLUICE_CUDA_CHECK(allowed);
  const int64_t blocks = chunked.chunks * chunked.kv_heads * ((chunked.key_size + KEYS - 1) / KEYS);
  gradients<GROUPED, FRAGMENTS>
      <<<static_cast<unsigned>(blocks), THREADS, kBytes, stream>>>(chunked, dq, dk, dg);
  SLUICE_CHECK_LAUNCH("gated_linear_attention gradients");
}

}  // namespace

void gradients_of_chunks(const Chunked& chunked, OutRows dq, OutRows dk, OutRows dg, Stream stream) {
  if (chunked.chunks == 0) return;
  if (chunked.group > 1) {
    launch_gradients<true, false>(chunked, dq, dk, dg, stream);
  } else if (chunked.fragments.panels > 0) {
    launch_gradients<false, true>(chunked, dq, dk, dg, stream);
  } else {
    launch_gradients<false, false>(chunked, dq, dk, dg, stream);
  }
}

}  // namespace sluice::kernels::gla
