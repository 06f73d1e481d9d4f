// Everything with an exponential in it, once a chunk: decayed queries and keys, scores inside the chunk.
#include <type_traits>

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 256;
// Rows of float factors: four banks apart, so that a fragment's eight rows of four columns fill the banks.
constexpr int ROW = PANEL + 4;

// Where only segments have a middle of their own: exponents, and the powers of two between them.
struct SegmentPowers {
  int middles[SEGMENTS * PANEL], ends[SEGMENTS * PANEL];
  // For 16 rows of the scores, all but the first: from their start to the middles of their two segments, and
  // from the middles of the segments before to that start. [3, SEGMENTS, PANEL]
  float around_start[3 * SEGMENTS * PANEL];
  float to_second[4 * PANEL];  // from the middle of the first of two segments to the other's
};

struct PrepareShared {
  float q[CHUNK * ROW];  // q' e^(b - middle) in 11 bits, or q'
  float k[CHUNK * ROW];  // k e^(middle - b) in 11 bits, or k
  union {
    float b[CHUNK * ROW];  // where the factors of a segment would leave the range of floats
    SegmentPowers powers;  // where those of the chunk would
  };
  float sums[SEGMENTS * PANEL];
};

__device__ __forceinline__ void store_pair(float* row, int column, float x, float y) {
  *reinterpret_cast<float2*>(row + column) = make_float2(x, y);
}

// q_hat or k_hat of one pair of columns: value, and the error of its rounding.
__device__ __forceinline__ uint32_t round_pair(float x, float y, uint32_t& error) {
  const uint32_t rounded = pack_bfloat16(x, y);
  const float2 back = unpack_bfloat16(rounded);
  error = pack_bfloat16(x - back.x, y - back.y);
  return rounded;
}

// c[t] += q k^T for rows row0 .., columns column0 + 8 t .. of the scores, 64 columns of the heads at a time.
__device__ __forceinline__ void add_scores(float (&c)[4][4], const PrepareShared& shared, int row0,
                                           int column0) {
  const int lane = threadIdx.x & 31, group = lane >> 2, pair = lane & 3;
  const float* q = shared.q + (row0 + group) * ROW + pair;
  const float* k = shared.k + (column0 + group) * ROW + pair;
#pragma unroll
  for (int i = 0; i < PANEL; i += 8) {
    const uint32_t a[4] = {__float_as_uint(q[i]), __float_as_uint(q[8 * ROW + i]), __float_as_uint(q[i + 4]),
                           __float_as_uint(q[8 * ROW + i + 4])};
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      if (column0 + 8 * t > row0 + 15) continue;
      mma_m16n8k8(c[t], a, __float_as_uint(k[8 * t * ROW + i]), __float_as_uint(k[8 * t * ROW + i + 4]));
    }
  }
}

// A thread's segment has its middles; all that it needs of the others are there since the last barrier.
__device__ __forceinline__ void write_powers(SegmentPowers& powers, int2 middles, int segment, int column) {
  const auto write = [&](float* to, int2 from) {
    store_pair(to, column, exact_power_of_two(middles.x - from.x), exact_power_of_two(middles.y - from.y));
  };
#pragma unroll
  for (int tile = 1; tile < 4; ++tile) {
    if (segment > 2 * tile + 1) continue;
    const int2 start = *reinterpret_cast<const int2*>(powers.ends + (2 * tile - 1) * PANEL + column);
    float* to = powers.around_start + ((tile - 1) * SEGMENTS + segment) * PANEL;
    if (segment >= 2 * tile) {
      write(to, start);
    } else {
      store_pair(to, column, exact_power_of_two(start.x - middles.x),
                 exact_power_of_two(start.y - middles.y));
    }
  }
  if (segment % 2 == 1) {
    write(powers.to_second + segment / 2 * PANEL,
          *reinterpret_cast<const int2*>(powers.middles + (segment - 1) * PANEL + column));
  }
}

// The same with middles of segments: those before the 16 rows meet them at their start. Powers of two leave
// 11 bits as they are, and what underflows has decayed by 2^-65 at least.
__device__ __forceinline__ void add_scores_by_segments(float (&c)[4][4], const PrepareShared& shared,
                                                       int row0, int column0) {
  const int lane = threadIdx.x & 31, group = lane >> 2, pair = lane & 3;
  const float* q = shared.q + (row0 + group) * ROW + pair;
  if (column0 < row0) {
    const float* k = shared.k + (column0 + group) * ROW + pair;
    const float* powers = shared.powers.around_start + (row0 / 16 - 1) * SEGMENTS * PANEL + pair;
    const float* of_rows = powers + row0 / SEGMENT_ROWS * PANEL;
    const float* of_columns = powers + column0 / SEGMENT_ROWS * PANEL;
#pragma unroll 2
    for (int i = 0; i < PANEL; i += 8) {
      const uint32_t a[4] = {__float_as_uint(q[i] * of_rows[i]),
                             __float_as_uint(q[8 * ROW + i] * of_rows[PANEL + i]),
                             __float_as_uint(q[i + 4] * of_rows[i + 4]),
                             __float_as_uint(q[8 * ROW + i + 4] * of_rows[PANEL + i + 4])};
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        if (column0 + 8 * t >= row0) continue;
        mma_m16n8k8(c[t], a, __float_as_uint(k[8 * t * ROW + i] * of_columns[t * PANEL + i]),
                    __float_as_uint(k[8 * t * ROW + i + 4] * of_columns[t * PANEL + i + 4]));
      }
    }
  }
  if (column0 != (row0 & 32)) return;
  // The diagonal's two segments. Above the diagonal the sums are of no use.
  const float* k = shared.k + (row0 + group) * ROW + pair;
  const float* to_second = shared.powers.to_second + row0 / 16 * PANEL + pair;
  float first[4] = {}, second[4] = {};
#pragma unroll 2
  for (int i = 0; i < PANEL; i += 8) {
    uint32_t a[4] = {__float_as_uint(q[i]), __float_as_uint(q[8 * ROW + i]), __float_as_uint(q[i + 4]),
                     __float_as_uint(q[8 * ROW + i + 4])};
    mma_m16n8k8(second, a, __float_as_uint(k[8 * ROW + i]), __float_as_uint(k[8 * ROW + i + 4]));
    a[1] = __float_as_uint(q[8 * ROW + i] * to_second[i]);
    a[3] = __float_as_uint(q[8 * ROW + i + 4] * to_second[i + 4]);
    mma_m16n8k8(first, a, __float_as_uint(k[i]), __float_as_uint(k[i + 4]));
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (row0 & 16) {
      c[2][e] += first[e], c[3][e] += second[e];
    } else {
      c[0][e] += first[e], c[1][e] += second[e];
    }
  }
}

// The same term by term, for any gates: no exponent is positive.
__device__ __forceinline__ void add_scores_by_terms(float (&c)[4][4], const PrepareShared& shared, int row0,
                                                    int column0) {
  const int lane = threadIdx.x & 31, group = lane >> 2, pair = lane & 3;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = row0 + group + 8 * (e >> 1), column = column0 + 8 * t + 2 * pair + (e & 1);
      if (column > row) continue;
      float sum = 0.0f;
#pragma unroll 2
      for (int i = 0; i < PANEL; ++i) {
        sum += shared.q[row * ROW + i] * shared.k[column * ROW + i] *
               power_of_two(shared.b[row * ROW + i] - shared.b[column * ROW + i]);
      }
      c[t][e] += sum;
    }
  }
}

// One block a chunk and query head; that of a group's first head also writes what belongs to the kv head.
// FUSED: for the fused walk.
template <bool FUSED>
__global__ void __launch_bounds__(THREADS, 3) prepare(const __grid_constant__ Chunked p) {
  extern __shared__ __align__(128) unsigned char memory[];
  PrepareShared& shared = *reinterpret_cast<PrepareShared*>(memory);
  const int64_t c = blockIdx.x / p.heads;
  const int head = static_cast<int>(blockIdx.x % p.heads), kv_head = head / p.group;
  const bool first_of_group = head % p.group == 0;
  const ChunkSpan span = span_of_chunk(p.offsets, p.chunk_offsets, p.sequences, c);
  if (head == 0 && threadIdx.x == 0) p.spans[c] = span;
  const int rows = static_cast<int>(span.rows), K = p.key_size;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int segment = warp, first_row = segment * SEGMENT_ROWS;
  const int row0 = (warp & 3) * 16, column0 = (warp >> 2) * 32;
  float scores[4][4] = {};
  for (int k0 = 0; k0 < (FUSED ? p.panels * PANEL : K); k0 += PANEL) {
    const int in_panel = 2 * lane, column = k0 + in_panel;
    const bool active = column < K;
    const auto at = [&](const Rows& from, int h) {
      return from.data + span.first * from.stride + static_cast<int64_t>(h) * K + (active ? column : 0);
    };
    uint32_t q[SEGMENT_ROWS], k[SEGMENT_ROWS];
    load_segment(q, at(p.q, head), p.q.stride, segment, active ? rows : 0);
    load_segment(k, at(p.k, kv_head), p.k.stride, segment, active ? rows : 0);
    const Gates gates = gates_of_chunk<PANEL>(p.g.data != nullptr && active ? at(p.g, kv_head) : nullptr,
                                              p.g.stride, rows, in_panel, segment, shared.sums);
    // Also: the products of the previous 64 columns are done with shared.q and shared.k.
    const bool out_of_range = __syncthreads_or(!gates.in_range());
    float middle0 = gates.middle(0), middle1 = gates.middle(1);
    bool by_terms = false;
    if (out_of_range) {
      const int at = segment * PANEL + in_panel;
      const int2 middles = gates.segment_middles(*reinterpret_cast<const float2*>(shared.sums + at));
      *reinterpret_cast<int2*>(shared.powers.middles + at) = middles;
      *reinterpret_cast<int2*>(shared.powers.ends + at) = gates.segment_ends();
      by_terms = __syncthreads_or(!gates.segment_in_range(middles));
      if (!by_terms) write_powers(shared.powers, middles, segment, in_panel);
      middle0 = by_terms ? 0.0f : static_cast<float>(middles.x);
      middle1 = by_terms ? 0.0f : static_cast<float>(middles.y);
    }
    const float before0 = power_of_two(middle0), before1 = power_of_two(middle1);
    const float after0 = power_of_two(gates.total[0] - middle0),
                after1 = power_of_two(gates.total[1] - middle1);
    const bool written = active || FUSED;  // zeros, and decays of 1, beyond K
    if (written && first_of_group && segment == 0) {
      store_pair(p.decay + (c * p.kv_heads + kv_head) * (FUSED ? p.panels * PANEL : K), column,
                 power_of_two(gates.total[0]), power_of_two(gates.total[1]));
    }
    // In pairs; a fused row's pieces are permuted by the row.
    const int hat_row = FUSED ? PANEL / 2 : K / 2, piece = FUSED ? lane >> 2 : 0;
    const auto hat_of = [&](bfloat16* hat, int64_t chunk_head, int row) {
      const int64_t at =
          FUSED ? ((chunk_head * p.panels + k0 / PANEL) * HAT_ROWS + row) * PANEL + 2 * (lane & 3)
                : (chunk_head * HAT_ROWS + row) * K + column;
      return reinterpret_cast<uint32_t*>(hat + at);
    };
    const int q_row = p.flipped ? CHUNK - 16 - (first_row & ~15) + (first_row & 15) : first_row;
    uint32_t* q_hat = hat_of(p.q_hat, c * p.heads + head, q_row);
    uint32_t* k_hat = hat_of(p.k_hat, c * p.kv_heads + kv_head, first_row);
    const bool q_low = !p.flipped && first_row < LOW, k_low = first_row >= CHUNK - LOW;
    const auto write_factors = [&](auto terms) {
#pragma unroll
      for (int i = 0; i < SEGMENT_ROWS; ++i) {
        const int place = (first_row + i) * ROW;
        const float2 q_plain = unpack_bfloat16(q[i]), k_plain = unpack_bfloat16(k[i]);
        float2 q_to_start = make_float2(p.power * q_plain.x, p.power * q_plain.y), k_to_end = k_plain;
        const float b0 = gates.b[i][0], b1 = gates.b[i][1];
        if constexpr (decltype(terms)::value) {
          store_pair(shared.q + place, in_panel, q_to_start.x, q_to_start.y);
          store_pair(shared.k + place, in_panel, k_plain.x, k_plain.y);
          store_pair(shared.b + place, in_panel, b0, b1);
          q_to_start.x *= power_of_two(b0), q_to_start.y *= power_of_two(b1);
          k_to_end.x *= power_of_two(gates.total[0] - b0), k_to_end.y *= power_of_two(gates.total[1] - b1);
        } else {
          q_to_start.x *= power_of_two(b0 - middle0), q_to_start.y *= power_of_two(b1 - middle1);
          k_to_end.x *= power_of_two(middle0 - b0), k_to_end.y *= power_of_two(middle1 - b1);
          store_pair(shared.q + place, in_panel, to_tf32(q_to_start.x), to_tf32(q_to_start.y));
          store_pair(shared.k + place, in_panel, to_tf32(k_to_end.x), to_tf32(k_to_end.y));
          q_to_start.x *= before0, q_to_start.y *= before1;
          k_to_end.x *= after0, k_to_end.y *= after1;
        }
        uint32_t q_error, k_error;
        const uint32_t q_rounded = round_pair(q_to_start.x, q_to_start.y, q_error);
        const uint32_t k_rounded = round_pair(k_to_end.x, k_to_end.y, k_error);
        if (written) {
          const int at = FUSED ? (piece ^ i) << 2 : 0;
          q_hat[at] = q_rounded;
          if (q_low) q_hat[CHUNK * hat_row + at] = q_error;
          if (first_of_group) {
            k_hat[at] = k_rounded;
            if (k_low) k_hat[LOW * hat_row + at] = k_error;
          }
        }
        q_hat += hat_row, k_hat += hat_row;
      }
    };
    if (by_terms) {
      write_factors(std::true_type());
    } else {
      write_factors(std::false_type());
    }
    __syncthreads();
    if (column0 > row0 + 15) continue;  // above the diagonal
    if (by_terms) {
      add_scores_by_terms(scores, shared, row0, column0);
    } else if (out_of_range) {
      add_scores_by_segments(scores, shared, row0, column0);
    } else {
      add_scores(scores, shared, row0, column0);
    }
  }
  uint32_t* rounded = reinterpret_cast<uint32_t*>(p.scores + (c * p.heads + head) * 2 * CHUNK * CHUNK);
  const int group = lane >> 2, pair = lane & 3;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + group + 8 * half, column = column0 + 8 * t + 2 * pair;
      const float x = column <= row ? scores[t][2 * half] : 0.0f;
      const float y = column + 1 <= row ? scores[t][2 * half + 1] : 0.0f;
      uint32_t error;
      const int to_row = p.flipped ? CHUNK - 16 - 2 * row0 + row : row;
      const int at = to_row * CHUNK / 2 + (FUSED ? ((column >> 3 ^ group) << 2) + pair : column / 2);
      rounded[at] = round_pair(x, y, error);
      rounded[CHUNK * CHUNK / 2 + at] = error;
    }
  }
}

constexpr int D_SCORES_THREADS = 128;
constexpr int D_SCORES_STAGES = 3;
constexpr int D_SCORES_STAGE_BYTES = 2 * CHUNK * PANEL_ROW_BYTES;

// dP = tril(dO V^T), in 11 bits: a factor of the products that follow. One block a chunk and query head.
__global__ void __launch_bounds__(D_SCORES_THREADS, 4) d_scores(const __grid_constant__ Chunked p) {
  extern __shared__ __align__(128) unsigned char memory[];
  const uint32_t tiles = shared_address(memory);
  const int64_t c = blockIdx.x / p.heads;
  const int head = static_cast<int>(blockIdx.x % p.heads), kv_head = head / p.group;
  const ChunkSpan span = p.spans[c];
  const int rows = static_cast<int>(span.rows), V = p.value_size;
  const bfloat16* d_o = p.d_o.data + span.first * p.d_o.stride + static_cast<int64_t>(head) * V;
  const bfloat16* v = p.v.data + span.first * p.v.stride + static_cast<int64_t>(kv_head) * V;
  const int steps = (V + PANEL - 1) / PANEL;
  const auto load = [&](int step) {
    if (step < steps) {
      const uint32_t tile = tiles + step % D_SCORES_STAGES * D_SCORES_STAGE_BYTES;
      const int v0 = step * PANEL;
      copy_panel<CHUNK, D_SCORES_THREADS>(tile, d_o + v0, p.d_o.stride, rows, V - v0);
      copy_panel<CHUNK, D_SCORES_THREADS>(tile + CHUNK * PANEL_ROW_BYTES, v + v0, p.v.stride, rows, V - v0);
    }
    commit_copies();
  };
  for (int step = 0; step < D_SCORES_STAGES - 1; ++step) load(step);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row0 = (warp & 1) * 32, column0 = (warp >> 1) * 32;
  const bool above = column0 > row0;
  float sums[2][4][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<D_SCORES_STAGES - 2>();
    __syncthreads();
    load(step + D_SCORES_STAGES - 1);
    if (above) continue;
    const uint32_t tile = tiles + step % D_SCORES_STAGES * D_SCORES_STAGE_BYTES;
#pragma unroll
    for (int k = 0; k < PANEL; k += 16) {
      uint32_t a[2][4], b[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) fragment_a_stored_mk(a[m], tile, row0 + 16 * m, k);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        fragment_b_stored_nk(b[n], tile + CHUNK * PANEL_ROW_BYTES, k, column0 + 16 * n);
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int t = 0; t < 4; ++t)
          mma_m16n8k16(sums[m][t], a[m], b[t / 2][t % 2 * 2], b[t / 2][t % 2 * 2 + 1]);
      }
    }
  }
  float* to = p.d_scores + (c * p.heads + head) * CHUNK * CHUNK;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int t = 0; t < 4; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + 16 * m + (lane >> 2) + 8 * half, column = column0 + 8 * t + 2 * (lane & 3);
        store_pair(to + row * CHUNK, column, column <= row ? to_tf32(sums[m][t][2 * half]) : 0.0f,
                   column + 1 <= row ? to_tf32(sums[m][t][2 * half + 1]) : 0.0f);
      }
    }
  }
}

template <bool FUSED>
void launch_prepare(const Chunked& chunked, Stream stream) {
  constexpr int kBytes = static_cast<int>(sizeof(PrepareShared));
  static const cudaError_t allowed =
      cudaFuncSetAttribute(prepare<FUSED>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  SLUICE_CUDA_CHECK(allowed);
  prepare<FUSED><<<static_cast<unsigned>(chunked.chunks * chunked.heads), THREADS, kBytes, stream>>>(chunked);
  SLUICE_CHECK_LAUNCH("gated_linear_attention prepare");
}

}  // namespace

void prepare_chunks(const Chunked& chunked, Stream stream) {
  if (chunked.chunks == 0) return;
  if (chunked.panels > 0) {
    launch_prepare<true>(chunked, stream);
  } else {
    launch_prepare<false>(chunked, stream);
  }
}

void d_scores_of_chunks(const Chunked& chunked, Stream stream) {
  if (chunked.chunks == 0) return;
  d_scores<<<static_cast<unsigned>(chunked.chunks * chunked.heads), D_SCORES_THREADS,
             D_SCORES_STAGES * D_SCORES_STAGE_BYTES, stream>>>(chunked);
  SLUICE_CHECK_LAUNCH("gated_linear_attention d_scores");
}

}  // namespace sluice::kernels::gla
