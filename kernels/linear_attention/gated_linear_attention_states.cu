// States between chunks: X = decay X + hat^T W along a sequence, X in float registers, stored as bfloat16
// before each update. Forward hat is k_hat and W is v; in reverse, for the states' gradients, they are q_hat
// and dO.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"

namespace sluice::kernels::gla {
namespace {

constexpr int TILE = 64;  // rows and columns of X that a block carries
constexpr int STAGES = 3;
constexpr int HAT_BYTES = HAT_ROWS * PANEL_ROW_BYTES, VALUE_BYTES = CHUNK * PANEL_ROW_BYTES;
constexpr int DECAY_BYTES = TILE * static_cast<int>(sizeof(float));
constexpr int STAGE_BYTES = HAT_BYTES + VALUE_BYTES + DECAY_BYTES;

struct Walk {
  Rows values;          // W
  const bfloat16* hat;  // [chunks, Hkv * group, HAT_ROWS, K]
  int group;            // heads of hat and W that add to one state
  bool reverse;
  bfloat16* states;  // [chunks, Hkv, K, V]
  Slots start, end;
  float start_factor, end_factor;
};

// Elements of a [64, 64] tile of a float state, in the layout of the sums.
template <int ROWS16, class Visit>
__device__ __forceinline__ void visit_sums(int row0, int column0, int rows, int columns, const Visit& visit) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int m = 0; m < ROWS16; ++m) {
#pragma unroll
    for (int t = 0; t < 4; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = row0 + 16 * m + (lane >> 2) + 8 * (e >> 1);
        const int column = column0 + 8 * t + 2 * (lane & 3) + (e & 1);
        if (row < rows && column < columns) visit(m, t, e, row, column);
      }
    }
  }
}

// WARPS 4 does the same work with fewer reads of shared memory; 8 makes a step shorter where few blocks are
// there to hide it.
template <int WARPS>
__global__ void __launch_bounds__(WARPS * 32, WARPS == 4 ? 4 : 2)
    walk(const __grid_constant__ Chunked p, const __grid_constant__ Walk w) {
  constexpr int THREADS = WARPS * 32, ROWS16 = 8 / WARPS;  // fragments a warp: ROWS16 x 16 rows, 32 columns
  extern __shared__ __align__(128) unsigned char memory[];
  const uint32_t stages = shared_address(memory);
  const int K = p.key_size, V = p.value_size;
  const unsigned row_tiles = (K + TILE - 1) / TILE, tiles = row_tiles * ((V + TILE - 1) / TILE);
  const int k0 = static_cast<int>(blockIdx.x % tiles % row_tiles) * TILE;
  const int v0 = static_cast<int>(blockIdx.x % tiles / row_tiles) * TILE;
  const int kv_head = static_cast<int>(blockIdx.x / tiles % p.kv_heads);
  const int64_t s = blockIdx.x / tiles / p.kv_heads;
  const int rows = min(TILE, K - k0), columns = min(TILE, V - v0);
  const int64_t begin = p.offsets[s], length = p.offsets[s + 1] - begin, first_chunk = p.chunk_offsets[s];
  const int chunks = static_cast<int>(p.chunk_offsets[s + 1] - first_chunk);
  const int direction = w.reverse ? -1 : 1;
  const auto of_slot = [&](auto* states, int64_t slot) {
    return states + ((slot * p.kv_heads + kv_head) * K + k0) * V + v0;
  };
  // The next copies: of chunk `next`, head `next_r` of the group, into stage `next_stage`. No divisions on
  // the way: few long sequences leave nothing to hide them behind.
  const int64_t hats = static_cast<int64_t>(HAT_ROWS) * K;  // elements a chunk and head
  int next = w.reverse ? chunks - 1 : 0, next_r = 0, left = chunks * w.group;
  uint32_t next_stage = stages;
  const auto load = [&]() {
    if (left > 0) {
      const int64_t c = first_chunk + next, token = static_cast<int64_t>(next) * CHUNK;
      const int head = kv_head * w.group + next_r;
      const int valid = static_cast<int>(min(static_cast<int64_t>(CHUNK), length - token));
      copy_panel<HAT_ROWS, THREADS>(next_stage, w.hat + (c * p.kv_heads * w.group + head) * hats + k0, K,
                                    HAT_ROWS, rows);
      copy_panel<CHUNK, THREADS>(
          next_stage + HAT_BYTES,
          w.values.data + (begin + token) * w.values.stride + static_cast<int64_t>(head) * V + v0,
          w.values.stride, valid, columns);
      const float* decay = p.decay + (c * p.kv_heads + kv_head) * K + k0;
      const int piece = static_cast<int>(threadIdx.x) * 4;
      if (piece < TILE) {
        copy_async_16(next_stage + HAT_BYTES + VALUE_BYTES + piece * 4, piece < rows ? decay + piece : decay,
                      piece < rows);
      }
      --left;
      next_stage = next_stage == stages + (STAGES - 1) * STAGE_BYTES ? stages : next_stage + STAGE_BYTES;
      if (++next_r == w.group) next_r = 0, next += direction;
    }
    commit_copies();
  };
  for (int i = 0; i < STAGES - 1; ++i) load();

  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row0 = (warp >> 1) * 16 * ROWS16, column0 = (warp & 1) * 32;
  const int low_first = w.reverse ? 0 : CHUNK - LOW;  // tokens of the rounding errors
  float x[ROWS16][4][4] = {};
  const int64_t start_slot = w.start.read != nullptr ? w.start.of_sequence[s] : -1;
  if (start_slot >= 0) {
    const float* from = of_slot(w.start.read, start_slot);
    visit_sums<ROWS16>(row0, column0, rows, columns, [&](int m, int t, int e, int row, int column) {
      x[m][t][e] = w.start_factor * from[static_cast<int64_t>(row) * V + column];
    });
  }
  bfloat16* to = of_slot(w.states, first_chunk + (w.reverse ? chunks - 1 : 0)) + column0;
  const int64_t chunk_step = direction * static_cast<int64_t>(p.kv_heads) * K * V;
  uint32_t stage = 0;
  int r = 0;
  for (int step = chunks * w.group; step > 0; --step) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();
    load();
    const uint32_t hat = stages + stage, values = hat + HAT_BYTES;
    if (r == 0) {
      const float* decay = reinterpret_cast<const float*>(memory + stage + HAT_BYTES + VALUE_BYTES);
#pragma unroll
      for (int m = 0; m < ROWS16; ++m) {
        const int row = row0 + 16 * m;
        store_sums(x[m], 1.0f, to + row * V, V, rows - row, columns - column0);
        const float decay0 = decay[row + (lane >> 2)], decay1 = decay[row + (lane >> 2) + 8];
#pragma unroll
        for (int t = 0; t < 4; ++t) {
          x[m][t][0] *= decay0, x[m][t][1] *= decay0;
          x[m][t][2] *= decay1, x[m][t][3] *= decay1;
        }
      }
      to += chunk_step;
    }
#pragma unroll
    for (int k = 0; k < HAT_ROWS; k += 16) {
      const int token = k < CHUNK ? k : low_first;
      uint32_t a[ROWS16][4], b[2][4];
#pragma unroll
      for (int m = 0; m < ROWS16; ++m) fragment_a_stored_km(a[m], hat, row0 + 16 * m, k);
#pragma unroll
      for (int n = 0; n < 2; ++n) fragment_b_stored_kn(b[n], values, token, column0 + 16 * n);
#pragma unroll
      for (int m = 0; m < ROWS16; ++m) {
#pragma unroll
        for (int t = 0; t < 4; ++t) mma_m16n8k16(x[m][t], a[m], b[t / 2][t % 2 * 2], b[t / 2][t % 2 * 2 + 1]);
      }
    }
    stage = stage == (STAGES - 1) * STAGE_BYTES ? 0 : stage + STAGE_BYTES;
    if (++r == w.group) r = 0;
  }
  const int64_t end_slot = w.end.written != nullptr ? w.end.of_sequence[s] : -1;
  if (end_slot >= 0) {
    float* to = of_slot(w.end.written, end_slot);
    visit_sums<ROWS16>(row0, column0, rows, columns, [&](int m, int t, int e, int row, int column) {
      to[static_cast<int64_t>(row) * V + column] = w.end_factor * x[m][t][e];
    });
  }
}

template <int WARPS>
void launch_walk(const Chunked& chunked, const Walk& w, int64_t blocks, Stream stream) {
  static const cudaError_t allowed =
      cudaFuncSetAttribute(walk<WARPS>, cudaFuncAttributeMaxDynamicSharedMemorySize, STAGES * STAGE_BYTES);
  SLUICE_CUDA_CHECK(allowed);
  walk<WARPS><<<static_cast<unsigned>(blocks), WARPS * 32, STAGES * STAGE_BYTES, stream>>>(chunked, w);
  SLUICE_CHECK_LAUNCH("gated_linear_attention walk");
}

constexpr int ZERO_THREADS = 256;

__global__ void __launch_bounds__(ZERO_THREADS)
    zero_unnamed(float* states, int64_t elements, const int64_t* named, int64_t count) {
  const int64_t slot = blockIdx.x;
  bool is_named = false;
  for (int64_t s = threadIdx.x; s < count; s += ZERO_THREADS) is_named = is_named || named[s] == slot;
  if (__syncthreads_or(is_named)) return;
  float* state = states + slot * elements;
  for (int64_t i = threadIdx.x; i < elements; i += ZERO_THREADS) state[i] = 0.0f;
}

}  // namespace

void walk_states(const Chunked& chunked, const Slots& start, const Slots& end, bool reverse, Stream stream) {
  if (chunked.sequences == 0) return;
  Walk w;
  w.values = reverse ? chunked.d_o : chunked.v;
  w.hat = reverse ? chunked.q_hat : chunked.k_hat;
  w.group = reverse ? chunked.group : 1;
  w.reverse = reverse;
  w.states = reverse ? chunked.d_states : chunked.states;
  w.start = start, w.end = end;
  w.start_factor = reverse ? 1.0f / chunked.factor : 1.0f;
  w.end_factor = reverse ? chunked.factor : 1.0f;
  const int64_t tiles = ((chunked.key_size + TILE - 1) / TILE) * ((chunked.value_size + TILE - 1) / TILE);
  const int64_t blocks = tiles * chunked.kv_heads * chunked.sequences;
  // The sums of a tile are the same either way.
  constexpr int64_t kFewBlocks = 264;
  if (blocks <= kFewBlocks) {
    launch_walk<8>(chunked, w, blocks, stream);
  } else {
    launch_walk<4>(chunked, w, blocks, stream);
  }
}

void zero_unnamed_slots(float* states, int64_t slots, int64_t elements, const int64_t* named, int64_t count,
                        Stream stream) {
  if (slots == 0) return;
  zero_unnamed<<<static_cast<unsigned>(slots), ZERO_THREADS, 0, stream>>>(states, elements, named, count);
  SLUICE_CHECK_LAUNCH("zero_unnamed_slots");
}

}  // namespace sluice::kernels::gla
