// o from the states before each chunk, and dv, the same product with the gradients of the states after it:
//   [64, V] = factor ( hat [64, K] state [K, V] + sum over heads of scores [64, 64] rows [64, V] )
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 128;  // four warps of 32 rows and 64 columns
constexpr int COLUMNS = 2 * PANEL;
constexpr int STAGES = 3;
constexpr int PANEL_BYTES = CHUNK * PANEL_ROW_BYTES;
constexpr int STAGE_BYTES = 3 * PANEL_BYTES;

struct Output {
  const bfloat16* hat;     // [chunks, heads, HAT_ROWS, K]
  const bfloat16* states;  // [chunks, Hkv, K, V]
  Rows rows;               // v, or d_o when transposed
  OutRows to;              // [N, heads, V]
  int heads;               // of the output
  int summed;              // heads of scores and rows that add to one of the output
  bool transposed;         // the scores
};

// One block a chunk, head and 128 columns. Steps of the products: 64 rows of the state each, then for each
// summed head its scores and what rounding took off them.
__global__ void __launch_bounds__(THREADS, 3)
    output(const __grid_constant__ Chunked p, const __grid_constant__ Output out) {
  extern __shared__ __align__(128) unsigned char memory[];
  const uint32_t stages = shared_address(memory);
  const int K = p.key_size, V = p.value_size;
  const unsigned tiles = (V + COLUMNS - 1) / COLUMNS;
  const int v0 = static_cast<int>(blockIdx.x % tiles) * COLUMNS, columns = min(COLUMNS, V - v0);
  const int head = static_cast<int>(blockIdx.x / tiles % out.heads),
            kv_head = head / (out.heads / p.kv_heads);
  const int64_t c = blockIdx.x / tiles / out.heads;
  const ChunkSpan span = p.spans[c];
  const int rows = static_cast<int>(span.rows);
  const int state_steps = (K + PANEL - 1) / PANEL, steps = state_steps + 2 * out.summed;
  const auto load = [&](int step) {
    if (step < steps) {
      const uint32_t a = stages + step % STAGES * STAGE_BYTES, b = a + PANEL_BYTES;
      const bfloat16* from;
      int64_t stride;
      int valid;
      if (step < state_steps) {
        const int k0 = step * PANEL;
        copy_panel<CHUNK, THREADS>(a, out.hat + (c * out.heads + head) * HAT_ROWS * K + k0, K, CHUNK, K - k0);
        from = out.states + ((c * p.kv_heads + kv_head) * K + k0) * V + v0;
        stride = V, valid = K - k0;
      } else {
        const int part = (step - state_steps) & 1, source = head * out.summed + (step - state_steps) / 2;
        const int heads = out.heads * out.summed;
        copy_panel<CHUNK, THREADS>(a, p.scores + ((c * heads + source) * 2 + part) * CHUNK * CHUNK, CHUNK,
                                   CHUNK, CHUNK);
        const int value_head = out.transposed ? source : kv_head;
        from = out.rows.data + span.first * out.rows.stride + static_cast<int64_t>(value_head) * V + v0;
        stride = out.rows.stride, valid = rows;
      }
      copy_panel<CHUNK, THREADS>(b, from, stride, valid, columns);
      copy_panel<CHUNK, THREADS>(b + PANEL_BYTES, from + (columns > PANEL ? PANEL : 0), stride, valid,
                                 columns - PANEL);
    }
    commit_copies();
  };
  for (int step = 0; step < STAGES - 1; ++step) load(step);
  const int warp = threadIdx.x >> 5, row0 = (warp & 1) * 32, panel = warp >> 1;
  float sums[2][8][4] = {};
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    load(step + STAGES - 1);
    const uint32_t a_tile = stages + step % STAGES * STAGE_BYTES, b_tile = a_tile + (1 + panel) * PANEL_BYTES;
    const bool scores = step >= state_steps, transposed = scores && out.transposed;
    // The scores are zero above the diagonal.
    const int k_first = transposed ? row0 : 0, k_end = scores && !out.transposed ? row0 + 32 : CHUNK;
#pragma unroll 2
    for (int k = k_first; k < k_end; k += 16) {
      uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if (transposed) {
          fragment_a_stored_km(a[m], a_tile, row0 + 16 * m, k);
        } else {
          fragment_a_stored_mk(a[m], a_tile, row0 + 16 * m, k);
        }
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        uint32_t b[4];
        fragment_b_stored_kn(b, b_tile, k, 16 * n);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          mma_m16n8k16(sums[m][2 * n], a[m], b[0], b[1]);
          mma_m16n8k16(sums[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
  bfloat16* to = out.to.data + span.first * out.to.stride + static_cast<int64_t>(head) * V + v0;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + 16 * m, column = panel * PANEL + 32 * half;
      store_sums(&sums[m][4 * half], p.factor, to + row * out.to.stride + column, out.to.stride, rows - row,
                 columns - column);
    }
  }
}

void launch_output(const Chunked& chunked, const Output& out, Stream stream) {
  if (chunked.chunks == 0) return;
  static const cudaError_t allowed =
      cudaFuncSetAttribute(output, cudaFuncAttributeMaxDynamicSharedMemorySize, STAGES * STAGE_BYTES);
  SLUICE_CUDA_CHECK(allowed);
  const int64_t blocks = chunked.chunks * out.heads * ((chunked.value_size + COLUMNS - 1) / COLUMNS);
  output<<<static_cast<unsigned>(blocks), THREADS, STAGES * STAGE_BYTES, stream>>>(chunked, out);
  SLUICE_CHECK_LAUNCH("gated_linear_attention output");
}

}  // namespace

void output_of_chunks(const Chunked& chunked, OutRows o, Stream stream) {
  launch_output(chunked, {chunked.q_hat, chunked.states, chunked.v, o, chunked.heads, 1, false}, stream);
}

void d_values_of_chunks(const Chunked& chunked, OutRows dv, Stream stream) {
  launch_output(chunked,
                {chunked.k_hat, chunked.d_states, chunked.d_o, dv, chunked.kv_heads, chunked.group, true},
                stream);
}

}  // namespace sluice::kernels::gla
