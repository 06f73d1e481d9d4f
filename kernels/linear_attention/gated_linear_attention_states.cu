// States between chunks: X = decay X + hat^T W along a sequence, X in float registers, stored as bfloat16
// before each update. Forward hat is k_hat and W is v; in reverse, for the states' gradients, they are q_hat
// and dO.
#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"

namespace sluice::kernels::gla {
namespace {

constexpr int STAGES = 3;

// A block carries ROWS x COLUMNS of X, a warp a part of 16 or 32 rows and 32 or 64 columns of it. Large tiles
// read hat and W less often, small ones make steps short and blocks many where sequences are few and long.
template <int ROWS_, int COLUMNS_, int WARPS_DOWN, int WARPS_ACROSS, int ENOUGH>
struct Tile {
  // As many keep an H200 busier than more blocks of a smaller tile would: measured.
  static constexpr int ENOUGH_BLOCKS = ENOUGH;
  static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, THREADS = WARPS_DOWN * WARPS_ACROSS * 32;
  static constexpr int WARP_ROWS = ROWS / WARPS_DOWN, WARP_COLUMNS = COLUMNS / WARPS_ACROSS;
  static constexpr int FRAGMENTS_DOWN = WARP_ROWS / 16, FRAGMENTS_ACROSS = WARP_COLUMNS / 8;
  static constexpr int ROW_PANELS = (ROWS + PANEL - 1) / PANEL, COLUMN_PANELS = (COLUMNS + PANEL - 1) / PANEL;
  // Columns of a panel in use: rows of X lie along the columns of hat.
  static constexpr int PANEL_ROWS = ROWS < PANEL ? ROWS : PANEL,
                       PANEL_COLUMNS = COLUMNS < PANEL ? COLUMNS : PANEL;
  static constexpr int HAT_PANEL_BYTES = HAT_ROWS * PANEL_ROW_BYTES,
                       VALUE_PANEL_BYTES = CHUNK * PANEL_ROW_BYTES;
  static constexpr int HAT_BYTES = ROW_PANELS * HAT_PANEL_BYTES,
                       VALUE_BYTES = COLUMN_PANELS * VALUE_PANEL_BYTES;
  static constexpr int STAGE_BYTES = HAT_BYTES + VALUE_BYTES + ROWS * static_cast<int>(sizeof(float));
  static constexpr int BYTES = STAGES * STAGE_BYTES;
  static_assert(WARP_ROWS <= PANEL && WARP_COLUMNS <= PANEL && WARP_COLUMNS % 32 == 0 &&
                STAGE_BYTES % 128 == 0);
};

struct Walk {
  Rows values;          // W
  const bfloat16* hat;  // [chunks, Hkv * group, HAT_ROWS, K]
  int group;            // heads of hat and W that add to one state
  bool reverse;
  bfloat16* states;  // [chunks, Hkv, K, V]
  Slots start, end;
  float start_factor, end_factor;
};

struct Walks {
  Walk walks[2];
  unsigned blocks;  // of each
};

// Visits a warp's sums that lie inside [rows, columns] of the tile.
template <class T, class Visit>
__device__ __forceinline__ void visit_sums(int row0, int column0, int rows, int columns, const Visit& visit) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int m = 0; m < T::FRAGMENTS_DOWN; ++m) {
#pragma unroll
    for (int t = 0; t < T::FRAGMENTS_ACROSS; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = row0 + 16 * m + (lane >> 2) + 8 * (e >> 1);
        const int column = column0 + 8 * t + 2 * (lane & 3) + (e & 1);
        if (row < rows && column < columns) visit(m, t, e, row, column);
      }
    }
  }
}

// One block a walk, sequence, kv head and tile.
template <class T>
__global__ void __launch_bounds__(T::THREADS, 2)
    walk(const __grid_constant__ Chunked p, const __grid_constant__ Walks all) {
  extern __shared__ __align__(128) unsigned char memory[];
  const uint32_t stages = shared_address(memory);
  const int K = p.key_size, V = p.value_size;
  const unsigned row_tiles = (K + T::ROWS - 1) / T::ROWS,
                 tiles = row_tiles * ((V + T::COLUMNS - 1) / T::COLUMNS);
  const unsigned block = blockIdx.x % all.blocks;
  const Walk& w = all.walks[blockIdx.x / all.blocks];
  const int k0 = static_cast<int>(block % tiles % row_tiles) * T::ROWS;
  const int v0 = static_cast<int>(block % tiles / row_tiles) * T::COLUMNS;
  const int kv_head = static_cast<int>(block / tiles % p.kv_heads);
  const int64_t s = block / tiles / p.kv_heads;
  const int rows = min(T::ROWS, K - k0), columns = min(T::COLUMNS, V - v0);
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
      const bfloat16* hat = w.hat + (c * p.kv_heads * w.group + head) * hats + k0;
      const bfloat16* values =
          w.values.data + (begin + token) * w.values.stride + static_cast<int64_t>(head) * V + v0;
#pragma unroll
      for (int i = 0; i < T::ROW_PANELS; ++i) {
        copy_panel<HAT_ROWS, T::THREADS, T::PANEL_ROWS>(next_stage + i * T::HAT_PANEL_BYTES, hat + i * PANEL,
                                                        K, HAT_ROWS, rows - i * PANEL);
      }
#pragma unroll
      for (int i = 0; i < T::COLUMN_PANELS; ++i) {
        copy_panel<CHUNK, T::THREADS, T::PANEL_COLUMNS>(next_stage + T::HAT_BYTES + i * T::VALUE_PANEL_BYTES,
                                                        values + i * PANEL, w.values.stride, valid,
                                                        columns - i * PANEL);
      }
      const int four = static_cast<int>(threadIdx.x) * 4;
      if (four < T::ROWS) {
        copy_async_16(next_stage + T::HAT_BYTES + T::VALUE_BYTES + four * 4,
                      p.decay + (c * p.kv_heads + kv_head) * K + k0 + four, four < rows);
      }
      --left;
      next_stage =
          next_stage == stages + (STAGES - 1) * T::STAGE_BYTES ? stages : next_stage + T::STAGE_BYTES;
      if (++next_r == w.group) next_r = 0, next += direction;
    }
    commit_copies();
  };
  for (int i = 0; i < STAGES - 1; ++i) load();

  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int row0 = warp / (T::COLUMNS / T::WARP_COLUMNS) * T::WARP_ROWS;
  const int column0 = warp % (T::COLUMNS / T::WARP_COLUMNS) * T::WARP_COLUMNS;
  const uint32_t hat_place = row0 / PANEL * T::HAT_PANEL_BYTES;
  const uint32_t value_place = T::HAT_BYTES + column0 / PANEL * T::VALUE_PANEL_BYTES;
  const int low_first = w.reverse ? 0 : CHUNK - LOW;  // tokens of the rounding errors
  float x[T::FRAGMENTS_DOWN][T::FRAGMENTS_ACROSS][4] = {};
  const int64_t start_slot = w.start.read != nullptr ? w.start.of_sequence[s] : -1;
  if (start_slot >= 0) {
    const float* from = of_slot(w.start.read, start_slot);
    visit_sums<T>(row0, column0, rows, columns, [&](int m, int t, int e, int row, int column) {
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
    if (r == 0) {
      const float* decay = reinterpret_cast<const float*>(memory + stage + T::HAT_BYTES + T::VALUE_BYTES);
#pragma unroll
      for (int m = 0; m < T::FRAGMENTS_DOWN; ++m) {
        const int row = row0 + 16 * m;
#pragma unroll
        for (int t = 0; t < T::FRAGMENTS_ACROSS; t += 4) {
          store_sums(&x[m][t], 1.0f, to + row * V + 8 * t, V, rows - row, columns - column0 - 8 * t);
        }
        const float decay0 = decay[row + (lane >> 2)], decay1 = decay[row + (lane >> 2) + 8];
#pragma unroll
        for (int t = 0; t < T::FRAGMENTS_ACROSS; ++t) {
          x[m][t][0] *= decay0, x[m][t][1] *= decay0;
          x[m][t][2] *= decay1, x[m][t][3] *= decay1;
        }
      }
      to += chunk_step;
    }
    const uint32_t hat = stages + stage + hat_place, values = stages + stage + value_place;
#pragma unroll
    for (int k = 0; k < HAT_ROWS; k += 16) {
      const int token = k < CHUNK ? k : low_first;
      uint32_t a[T::FRAGMENTS_DOWN][4];
#pragma unroll
      for (int m = 0; m < T::FRAGMENTS_DOWN; ++m) fragment_a_stored_km(a[m], hat, row0 % PANEL + 16 * m, k);
#pragma unroll
      for (int n = 0; n < T::FRAGMENTS_ACROSS; n += 2) {
        uint32_t b[4];
        fragment_b_stored_kn(b, values, token, column0 % PANEL + 8 * n);
#pragma unroll
        for (int m = 0; m < T::FRAGMENTS_DOWN; ++m) {
          mma_m16n8k16(x[m][n], a[m], b[0], b[1]);
          mma_m16n8k16(x[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
    stage = stage == (STAGES - 1) * T::STAGE_BYTES ? 0 : stage + T::STAGE_BYTES;
    if (++r == w.group) r = 0;
  }
  const int64_t end_slot = w.end.written != nullptr ? w.end.of_sequence[s] : -1;
  if (end_slot >= 0) {
    float* end = of_slot(w.end.written, end_slot);
    visit_sums<T>(row0, column0, rows, columns, [&](int m, int t, int e, int row, int column) {
      end[static_cast<int64_t>(row) * V + column] = w.end_factor * x[m][t][e];
    });
  }
}

// Walks in tiles T if that makes enough blocks, or else in one of the smaller ones. Which it is changes no
// result: an element's sums are the same in each.
template <class T, class... Smaller>
void launch_walks(const Chunked& chunked, Walks& all, int count, Stream stream) {
  const int64_t tiles = ((chunked.key_size + T::ROWS - 1) / T::ROWS) *
                        ((chunked.value_size + T::COLUMNS - 1) / static_cast<int64_t>(T::COLUMNS));
  const int64_t blocks = tiles * chunked.kv_heads * chunked.sequences;
  [[maybe_unused]] const bool enough = blocks * count >= T::ENOUGH_BLOCKS;
  if constexpr (sizeof...(Smaller) > 0) {
    if (!enough) return launch_walks<Smaller...>(chunked, all, count, stream);
  }
  all.blocks = static_cast<unsigned>(blocks);
  static const cudaError_t allowed =
      cudaFuncSetAttribute(walk<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::BYTES);
  SLUICE_CUDA_CHECK(allowed);
  walk<T><<<static_cast<unsigned>(blocks * count), T::THREADS, T::BYTES, stream>>>(chunked, all);
  SLUICE_CHECK_LAUNCH("gated_linear_attention walk");
}

Walk walk_of(const Chunked& chunked, const StateWalk& of) {
  Walk w;
  w.values = of.reverse ? chunked.d_o : chunked.v;
  w.hat = of.reverse ? chunked.q_hat : chunked.k_hat;
  w.group = of.reverse ? chunked.group : 1;
  w.reverse = of.reverse;
  w.states = of.reverse ? chunked.d_states : chunked.states;
  w.start = of.start, w.end = of.end;
  w.start_factor = of.reverse ? 1.0f / chunked.factor : 1.0f;
  w.end_factor = of.reverse ? chunked.factor : 1.0f;
  return w;
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

void walk_states(const Chunked& chunked, const StateWalk* walks, int count, Stream stream) {
  if (chunked.sequences == 0) return;
  Walks all = {};
  for (int i = 0; i < count; ++i) all.walks[i] = walk_of(chunked, walks[i]);
  launch_walks<Tile<128, 128, 4, 2, 120>, Tile<64, 128, 4, 2, 192>, Tile<64, 64, 4, 2, 192>,
               Tile<32, 64, 2, 2, 120>, Tile<32, 32, 2, 1, 0>>(chunked, all, count, stream);
}

void zero_unnamed_slots(float* states, int64_t slots, int64_t elements, const int64_t* named, int64_t count,
                        Stream stream) {
  if (slots == 0) return;
  zero_unnamed<<<static_cast<unsigned>(slots), ZERO_THREADS, 0, stream>>>(states, elements, named, count);
  SLUICE_CHECK_LAUNCH("zero_unnamed_slots");
}

}  // namespace sluice::kernels::gla
