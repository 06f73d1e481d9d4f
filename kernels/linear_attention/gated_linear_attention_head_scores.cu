// The scores inside chunks where heads decay as a whole: a product of rows as they are, times e^(b_i - b_j),
// which is never above 1. The same for dO and v in the places of q and k.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 256, STAGES = 4;
constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES, STAGE_BYTES = 2 * PANEL_BYTES;
// Scores without their token's decay grow as that is small. A decay below e^-62 makes nothing of the state
// that a float could hold beside the rest; there the factor stays, which keeps the scores in range.
constexpr float LARGEST_DECAY = -90.0f;  // of two

struct ScoresShared {
  unsigned char stages[STAGES][STAGE_BYTES];
  float b[CHUNK];  // running sums of the gates, in powers of two
  float total;
  float near[THREADS / 32];
};

// Scores, two neighbours at a time, rounded and what the rounding took off.
__device__ __forceinline__ void store_scores(bfloat16* scores, int at, const float (&x)[2]) {
  uint32_t* to = reinterpret_cast<uint32_t*>(scores) + at;
  const uint32_t rounded = pack_bfloat16(x[0], x[1]);
  const float2 back = unpack_bfloat16(rounded);
  to[0] = rounded;
  to[CHUNK * CHUNK / 2] = pack_bfloat16(x[0] - back.x, x[1] - back.y);
}

// One block a chunk and head.
template <bool GATED>
__global__ void __launch_bounds__(THREADS, 3)
    head_scores(const __grid_constant__ Chunked p, const __grid_constant__ HeadScores s) {
  extern __shared__ __align__(128) unsigned char memory[];
  ScoresShared& shared = *reinterpret_cast<ScoresShared*>(memory);
  const int64_t c = blockIdx.x / p.heads;
  const int head = static_cast<int>(blockIdx.x % p.heads);
  const ChunkSpan span = span_of_chunk(p.offsets, p.chunk_offsets, p.sequences, c);
  const int rows = static_cast<int>(span.rows), size = s.size, panels = (size + PANEL - 1) / PANEL;
  const int64_t chunk_head = c * p.heads + head;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const bfloat16* q = s.queries.data + span.first * s.queries.stride + static_cast<int64_t>(head) * size;
  const bfloat16* k = s.keys.data + span.first * s.keys.stride + static_cast<int64_t>(head) * size;
  const auto load = [&](int panel) {
    if (panel < panels) {
      const uint32_t stage = shared_address(shared.stages[panel % STAGES]);
      const int column = panel * PANEL;
      copy_panel<CHUNK, THREADS>(stage, q + column, s.queries.stride, rows, size - column);
      copy_panel<CHUNK, THREADS>(stage + PANEL_BYTES, k + column, s.keys.stride, rows, size - column);
    }
    commit_copies();
  };
  for (int panel = 0; panel < STAGES - 1; ++panel) load(panel);

  if (warp == 0) {  // two tokens a lane
    float g[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = 2 * lane + e;
      g[e] = row < rows ? head_gate(p.head_gates, span.first + row, head) : 0.0f;
    }
    float sum = g[0] + g[1];
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const float before = __shfl_up_sync(~0u, sum, lanes);
      if (lane >= lanes) sum += before;
    }
    const float total = __shfl_sync(~0u, sum, 31);
    const float sum_before = __shfl_up_sync(~0u, sum, 1);
    const float b[2] = {(lane > 0 ? sum_before : 0.0f) + g[0], sum};
    const auto store_factors = [&](float* all, bool reverse) {
      if (all == nullptr) return;
      float* to = all + chunk_head * HEAD_FACTORS;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int row = 2 * lane + e;
        const float to_start = b[e], to_end = total - b[e];
        to[EMIT_FACTORS + row] = power_of_two(fmaxf(reverse ? to_end : to_start, LARGEST_DECAY));
        to[UPDATE_FACTORS + row] = power_of_two(reverse ? to_start : to_end);
      }
      if (lane < UPDATE_FACTORS - HEAD_DECAY) to[HEAD_DECAY + lane] = power_of_two(total);
    };
    store_factors(s.forward_factors, false);
    store_factors(s.reverse_factors, true);
    shared.b[2 * lane] = b[0], shared.b[2 * lane + 1] = b[1];
    if (lane == 0) shared.total = total;
  }

  const int row0 = (warp & 3) * 16, column0 = (warp >> 2) * 32;
  float sums[4][4] = {};
  for (int panel = 0; panel < panels; ++panel) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    load(panel + STAGES - 1);
    if (column0 > row0 + 15) continue;  // above the diagonal
    const uint32_t q_tile = shared_address(shared.stages[panel % STAGES]), k_tile = q_tile + PANEL_BYTES;
#pragma unroll
    for (int j = 0; j < PANEL; j += 16) {
      uint32_t a[4];
      fragment_a_stored_mk(a, q_tile, row0, j);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        uint32_t b[4];
        fragment_b_stored_nk(b, k_tile, j, column0 + 16 * n);
        mma_m16n8k16(sums[2 * n], a, b[0], b[1]);
        mma_m16n8k16(sums[2 * n + 1], a, b[2], b[3]);
      }
    }
  }

  const int64_t first_score = chunk_head * 2 * CHUNK * CHUNK;
  const int group = lane >> 2, pair = lane & 3;
  float near = 0.0f;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + group + 8 * half, column = column0 + 8 * t + 2 * pair;
      const int at = row * CHUNK / 2 + ((column >> 3 ^ group) << 2) + pair;
      const float b = shared.b[row];
      float of_query[2], of_key[2];
      float2 other = {};
      if constexpr (GATED) {
        const uint32_t* others = reinterpret_cast<const uint32_t*>(s.others + first_score);
        const float2 high = unpack_bfloat16(others[at]),
                     low = unpack_bfloat16(others[CHUNK * CHUNK / 2 + at]);
        other = make_float2(high.x + low.x, high.y + low.y);
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float sum = sums[t][2 * half + e];
        const bool below = GATED ? column + e < row : column + e <= row;
        const float between = b - shared.b[column + e];
        const float to_end = fmaxf(shared.total - shared.b[column + e], LARGEST_DECAY);
        of_query[e] = below ? sum * power_of_two(between - fmaxf(b, LARGEST_DECAY)) : 0.0f;
        of_key[e] = below ? sum * power_of_two(between - to_end) : 0.0f;
        if constexpr (GATED) {
          if (column + e == row) s.diagonal[chunk_head * CHUNK + row] = p.scale * sum;
          if (below) near += sum * (e == 0 ? other.x : other.y) * power_of_two(to_end);
        }
      }
      if (s.of_queries != nullptr) store_scores(s.of_queries + first_score, at, of_query);
      if (s.of_keys != nullptr) store_scores(s.of_keys + first_score, at, of_key);
    }
  }
  if constexpr (GATED) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) near += __shfl_xor_sync(~0u, near, lanes);
    if (lane == 0) shared.near[warp] = near;
    __syncthreads();
    if (thread == 0) {
      float sum = 0.0f;
      for (int i = 0; i < THREADS / 32; ++i) sum += shared.near[i];
      s.near[chunk_head] = p.scale * sum;
    }
  }
}

template <bool GATED>
void launch_scores(const Chunked& chunked, const HeadScores& scores, Stream stream) {
  constexpr int kBytes = static_cast<int>(sizeof(ScoresShared));
  static const cudaError_t allowed =
      cudaFuncSetAttribute(head_scores<GATED>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  SLUICE_CUDA_CHECK(allowed);
  head_scores<GATED>
      <<<static_cast<unsigned>(chunked.chunks * chunked.heads), THREADS, kBytes, stream>>>(chunked, scores);
  SLUICE_CHECK_LAUNCH("gated_linear_attention head scores");
}

}  // namespace

void scores_of_heads(const Chunked& chunked, const HeadScores& scores, Stream stream) {
  if (chunked.chunks == 0) return;
  if (scores.others != nullptr) {
    launch_scores<true>(chunked, scores, stream);
  } else {
    launch_scores<false>(chunked, scores, stream);
  }
}

}  // namespace sluice::kernels::gla
