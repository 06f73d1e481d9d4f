#include "kernels/linear_attention/gated_linear_attention.h"

#include <omp.h>

#include <type_traits>

#include "kernels/common/state_slots_cpu.h"
#include "kernels/linear_attention/recurrence_cpu.h"

namespace sluice::kernels::cpu {
namespace {

// A state tile stays in the first-level cache beside the rows that stream past it.
constexpr int64_t kStateTileBytes = 32 * 1024;

// The widest of 64, 32 and 16 columns that the value size can fill and whose state tile fits. Columns never
// mix, so the result does not depend on it.
template <class T>
int tile_width(int64_t key_size, int64_t value_size) {
  int width = 64;
  while (width > 16 &&
         (key_size * width * static_cast<int64_t>(sizeof(T)) > kStateTileBytes || width / 2 >= value_size)) {
    width /= 2;
  }
  return width;
}

template <class T, int W>
void load_row(const T* from, int64_t width, T* to) {
  if (width == W) {
    for (int j = 0; j < W; ++j) to[j] = from[j];
  } else {
    for (int j = 0; j < W; ++j) to[j] = j < width ? from[j] : T(0);
  }
}

// A tile of a [K, V] matrix; null stands for zeros.
template <class T, int W>
void load_tile(const T* from, int64_t rows, int64_t row_stride, int64_t width, T* to) {
  if (from == nullptr) {
    std::fill_n(to, rows * W, T(0));
    return;
  }
  for (int64_t i = 0; i < rows; ++i) load_row<T, W>(from + i * row_stride, width, to + i * W);
}

template <class T, int W>
void store_tile(const T* from, int64_t rows, int64_t row_stride, int64_t width, T* to) {
  for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * W, width, to + i * row_stride);
}

// Spelled as vectors, so that the sums stay in registers along the loop over rows.
// o = scale * q S; with `Update` first S = Diag(decay) S + k^T v, fused row by row. state [rows, W] and v [W]
// are aligned to 64 bytes.
template <class T, int W, bool Update>
void read_state(std::conditional_t<Update, T, const T>* state, int64_t rows, const T* decay, const T* k,
                const T* v, const T* q, T scale, int64_t width, T* o) {
  constexpr int kVectors = W * static_cast<int>(sizeof(T)) / 64;
  Vector<T> sum[kVectors] = {};
  const Vector<T>* values = as_vectors(v);
  for (int64_t i = 0; i < rows; ++i) {
    auto* row = as_vectors(state + i * W);
    for (int n = 0; n < kVectors; ++n) {
      if constexpr (Update) row[n] = decay[i] * row[n] + k[i] * values[n];
      sum[n] += q[i] * row[n];
    }
  }
  const T* sums = reinterpret_cast<const T*>(sum);
  for (int64_t j = 0; j < width; ++j) o[j] = scale * sums[j];
}

// The recurrence of sequence s and one kv head for columns [first, first + width) of the values.
template <class T, int W>
void run_tile(const GatedLinearAttentionForward<T>& p, int64_t s, int64_t kv_head, int64_t first,
              T* scratch) {
  const int64_t K = p.key_size, V = p.value_size, group = p.heads / p.kv_heads;
  const int64_t width = std::min<int64_t>(W, V - first);
  const auto tile_of = [&](auto* states, int64_t row) {
    return states + (row * p.kv_heads + kv_head) * K * V + first;
  };
  T* state = scratch;  // [K, W]
  T* decay = state + K * W;
  const bool has_start = p.initial_state != nullptr && p.state_in[s] >= 0;
  load_tile<T, W>(has_start ? tile_of(p.initial_state, p.state_in[s]) : nullptr, K, V, width, state);
  decays<T>(nullptr, K, decay);
  const int64_t begin = p.offsets[s], end = p.offsets[s + 1];
  for (int64_t t = begin; t < end; ++t) {
    if (p.chunk_states != nullptr && (t - begin) % p.chunk == 0) {
      const int64_t row = p.chunk_offsets[s] + (t - begin) / p.chunk;
      store_tile<T, W>(state, K, V, width, tile_of(p.chunk_states, row));
    }
    if (p.g != nullptr) decays(p.g + t * p.g_stride + kv_head * K, K, decay);
    const T* k = p.k + t * p.k_stride + kv_head * K;
    const T* q = p.q + t * p.q_stride + kv_head * group * K;
    T* o = p.o + t * p.o_stride + kv_head * group * V + first;
    alignas(64) T v[W];
    load_row<T, W>(p.v + t * p.v_stride + kv_head * V + first, width, v);
    const T scale = static_cast<T>(p.scale);
    // The first query head of the group reads each row while it is being updated.
    read_state<T, W, true>(state, K, decay, k, v, q, scale, width, o);
    for (int64_t r = 1; r < group; ++r) {
      read_state<T, W, false>(state, K, nullptr, nullptr, v, q + r * K, scale, width, o + r * V);
    }
  }
  if (p.final_state != nullptr && p.state_out[s] >= 0) {
    store_tile<T, W>(state, K, V, width, tile_of(p.final_state, p.state_out[s]));
  }
}

template <class T, int W>
void run(const GatedLinearAttentionForward<T>& p) {
  const int64_t tiles = (p.value_size + W - 1) / W;
  const int64_t tasks = p.sequences * p.kv_heads * tiles;
  const int64_t updates = (p.tokens + p.sequences) * p.kv_heads * p.key_size * p.value_size;
  const ThreadScratch<T> scratch(omp_get_max_threads(), p.key_size * (W + 1));
#pragma omp parallel for schedule(dynamic) if (updates > kParallelUpdates)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t head = task / tiles;
    run_tile<T, W>(p, head / p.kv_heads, head % p.kv_heads, task % tiles * W,
                   scratch.of(omp_get_thread_num()));
  }
}

}  // namespace

template <class T>
void gated_linear_attention_forward(const GatedLinearAttentionForward<T>& p) {
  if (p.final_state != nullptr && p.final_state != p.initial_state) {
    zero_unnamed_slots(p.final_state, p.slots, p.kv_heads * p.key_size * p.value_size, p.state_out,
                       p.sequences);
  }
  switch (tile_width<T>(p.key_size, p.value_size)) {
    case 64:
      return run<T, 64>(p);
    case 32:
      return run<T, 32>(p);
    default:
      return run<T, 16>(p);
  }
}

template void gated_linear_attention_forward(const GatedLinearAttentionForward<float>&);
template void gated_linear_attention_forward(const GatedLinearAttentionForward<double>&);

}  // namespace sluice::kernels::cpu
