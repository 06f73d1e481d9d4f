// What prepare does where heads decay as a whole. Then a chunk's scores are a product of rows as they are,
// times e^(b_i - b_j), which is never above 1, and the hats are rows times a factor: nothing can leave the
// range of floats. The same for dO and v in the places of q and k, for the gradients.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.h"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 256, STAGES = 3;
constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES, STAGE_BYTES = 2 * PANEL_BYTES;
constexpr int PIECES = PANEL_BYTES / 16;  // of a panel
// Scores without their token's decay grow as that is small. A decay below e^-62 makes nothing of the state
// that a float could hold beside the rest; there the factor stays, which keeps the scores in range.
constexpr float LARGEST_DECAY = -90.0f;  // of two

struct HeadShared {
  unsigned char stages[STAGES][STAGE_BYTES];
  float b[CHUNK];         // running sums of the gates, in powers of two
  float to_start[CHUNK];  // 2^b, times power
  float to_end[CHUNK];    // 2^(bC - b)
  float total;
  float near[THREADS / 32];
};

// 16 bytes of a row times factor; what the rounding took off in `errors`.
__device__ __forceinline__ uint4 scale_piece(const uint4& piece, float factor, uint4& errors) {
  const uint32_t from[4] = {piece.x, piece.y, piece.z, piece.w};
  uint32_t to[4], error[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 x = unpack_bfloat16(from[i]);
    to[i] = pack_bfloat16(factor * x.x, factor * x.y);
    const float2 back = unpack_bfloat16(to[i]);
    error[i] = pack_bfloat16(factor * x.x - back.x, factor * x.y - back.y);
  }
  errors = make_uint4(error[0], error[1], error[2], error[3]);
  return make_uint4(to[0], to[1], to[2], to[3]);
}

// Scores, two neighbours at a time, rounded and what the rounding took off.
__device__ __forceinline__ void store_scores(uint32_t* to, const float (&x)[2]) {
  const uint32_t rounded = pack_bfloat16(x[0], x[1]);
  const float2 back = unpack_bfloat16(rounded);
  to[0] = rounded;
  to[CHUNK * CHUNK / 2] = pack_bfloat16(x[0] - back.x, x[1] - back.y);
}

enum class Scores {
  kPlain,
  kGradients,  // GradientScores
  kGated,      // with what the gates want
};

// One block a chunk and head.
template <Scores SCORES>
__global__ void __launch_bounds__(THREADS, 4)
    prepare_heads(const __grid_constant__ Chunked p, const __grid_constant__ GradientScores gradient) {
  constexpr bool GATED = SCORES == Scores::kGated;
  extern __shared__ __align__(128) unsigned char memory[];
  HeadShared& shared = *reinterpret_cast<HeadShared*>(memory);
  const int64_t c = blockIdx.x / p.heads;
  const int head = static_cast<int>(blockIdx.x % p.heads);
  const ChunkSpan span = span_of_chunk(p.offsets, p.chunk_offsets, p.sequences, c);
  const int rows = static_cast<int>(span.rows), K = p.key_size, panels = p.panels;
  const int64_t chunk_head = c * p.heads + head;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const bfloat16* q = p.q.data + span.first * p.q.stride + static_cast<int64_t>(head) * K;
  const bfloat16* k = p.k.data + span.first * p.k.stride + static_cast<int64_t>(head) * K;
  const auto load = [&](int panel) {
    if (panel < panels) {
      const uint32_t stage = shared_address(shared.stages[panel % STAGES]);
      copy_panel<CHUNK, THREADS>(stage, q + panel * PANEL, p.q.stride, rows, K - panel * PANEL);
      copy_panel<CHUNK, THREADS>(stage + PANEL_BYTES, k + panel * PANEL, p.k.stride, rows, K - panel * PANEL);
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
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      shared.b[2 * lane + e] = b[e];
      shared.to_start[2 * lane + e] = p.power * power_of_two(b[e]);
      shared.to_end[2 * lane + e] = power_of_two(total - b[e]);
    }
    const float decay = power_of_two(total);
    for (int i = lane; i < panels * PANEL; i += 32) p.decay[chunk_head * panels * PANEL + i] = decay;
    if constexpr (SCORES != Scores::kPlain) {
      float* of_queries = gradient.query_factors + chunk_head * ROW_FACTORS;
      float* of_keys = gradient.key_factors + chunk_head * ROW_FACTORS;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int row = 2 * lane + e;
        of_queries[row] = power_of_two(fmaxf(b[e], LARGEST_DECAY));
        of_keys[row] = power_of_two(fmaxf(total - b[e], LARGEST_DECAY));
      }
      if (lane < ROW_FACTORS - CHUNK) of_queries[CHUNK + lane] = of_keys[CHUNK + lane] = decay;
      if (lane == 0) shared.total = total;
    }
  }

  const int row0 = (warp & 3) * 16, column0 = (warp >> 2) * 32;
  float sums[4][4] = {};
  for (int panel = 0; panel < panels; ++panel) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    load(panel + STAGES - 1);
    const unsigned char* stage = shared.stages[panel % STAGES];
    // The hats' rows lie in memory as in shared memory, the errors of rounding behind them.
    uint4* q_hat = reinterpret_cast<uint4*>(p.q_hat + (chunk_head * panels + panel) * HAT_ROWS * PANEL);
    uint4* k_hat = reinterpret_cast<uint4*>(p.k_hat + (chunk_head * panels + panel) * HAT_ROWS * PANEL);
#pragma unroll
    for (int i = thread; i < PIECES; i += THREADS) {
      const int row = i / 8, place = i % 8;
      uint4 errors;
      const uint4 q_piece =
          scale_piece(*reinterpret_cast<const uint4*>(stage + i * 16), shared.to_start[row], errors);
      const int to_row = p.flipped ? CHUNK - 16 - (row & ~15) + (row & 15) : row;
      q_hat[to_row * 8 + place] = q_piece;
      if (!p.flipped && row < LOW) q_hat[(CHUNK + row) * 8 + place] = errors;
      k_hat[i] = scale_piece(*reinterpret_cast<const uint4*>(stage + PANEL_BYTES + i * 16),
                             shared.to_end[row], errors);
      if (row >= CHUNK - LOW) k_hat[i + LOW * 8] = errors;
    }
    if (column0 > row0 + 15) continue;  // above the diagonal
    const uint32_t q_tile = shared_address(stage), k_tile = q_tile + PANEL_BYTES;
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
  const auto pairs_of = [&](auto* scores) {
    return reinterpret_cast<uint32_t*>(const_cast<bfloat16*>(scores) + first_score);
  };
  const int group = lane >> 2, pair = lane & 3;
  float near = 0.0f;
#pragma unroll
  for (int t = 0; t < 4; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + group + 8 * half, column = column0 + 8 * t + 2 * pair;
      const int to_row = p.flipped ? CHUNK - 16 - 2 * row0 + row : row;
      const int at = to_row * CHUNK / 2 + ((column >> 3 ^ group) << 2) + pair;
      const float b = shared.b[row];
      float x[2], of_query[2], of_key[2];
      float2 other = {};  // scores of the query and keys
      if constexpr (GATED) {
        const uint32_t* others = pairs_of(gradient.scores);
        const float2 high = unpack_bfloat16(others[at]),
                     low = unpack_bfloat16(others[CHUNK * CHUNK / 2 + at]);
        other = make_float2(high.x + low.x, high.y + low.y);
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float sum = p.power * sums[t][2 * half + e];
        const bool below = GATED ? column + e < row : column + e <= row;
        const float between = b - shared.b[column + e];
        if constexpr (SCORES == Scores::kPlain) {
          x[e] = below ? sum * power_of_two(between) : 0.0f;
        } else {
          of_query[e] = below ? sum * power_of_two(between - fmaxf(b, LARGEST_DECAY)) : 0.0f;
          const float to_end = fmaxf(shared.total - shared.b[column + e], LARGEST_DECAY);
          of_key[e] = below ? sum * power_of_two(between - to_end) : 0.0f;
        }
        if constexpr (GATED) {
          if (column + e == row) gradient.diagonal[chunk_head * CHUNK + row] = p.factor * sum;
          if (below) near += sum * (e == 0 ? other.x : other.y);
        }
      }
      if constexpr (SCORES == Scores::kPlain) {
        store_scores(pairs_of(p.scores) + at, x);
      } else {
        store_scores(pairs_of(gradient.of_queries) + at, of_query);
        store_scores(pairs_of(gradient.of_keys) + at, of_key);
      }
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
      gradient.near[chunk_head] = gradient.factor * sum;
    }
  }
}

template <Scores SCORES>
void launch_prepare(const Chunked& chunked, const GradientScores& gradient, Stream stream) {
  if (chunked.chunks == 0) return;
  constexpr int kBytes = static_cast<int>(sizeof(HeadShared));
  static const cudaError_t allowed =
      cudaFuncSetAttribute(prepare_heads<SCORES>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  SLUICE_CUDA_CHECK(allowed);
  prepare_heads<SCORES>
      <<<static_cast<unsigned>(chunked.chunks * chunked.heads), THREADS, kBytes, stream>>>(chunked, gradient);
  SLUICE_CHECK_LAUNCH("gated_linear_attention prepare heads");
}

}  // namespace

void prepare_chunks_of_heads(const Chunked& chunked, Stream stream) {
  launch_prepare<Scores::kPlain>(chunked, {}, stream);
}

void prepare_gradients_of_heads(const Chunked& swapped, const GradientScores& to, bool gated, Stream stream) {
  if (gated) {
    launch_prepare<Scores::kGated>(swapped, to, stream);
  } else {
    launch_prepare<Scores::kGradients>(swapped, to, stream);
  }
}

}  // namespace sluice::kernels::gla
