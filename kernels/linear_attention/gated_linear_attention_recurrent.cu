#include "kernels/linear_attention/gated_linear_attention_recurrent.h"

#include "core/cuda_check.h"
#include "kernels/linear_attention/gated_linear_attention_chunk.cuh"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels::gla {
namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int WARP_COLUMNS = 4, COLUMNS = WARPS * WARP_COLUMNS;  // of X, a block
constexpr int BATCH = 32 / WARP_COLUMNS;    // tokens whose sums fill a warp's lanes; divides a chunk
constexpr int LARGEST_SHARED = 160 * 1024;  // what sm_80 has for a block, and a little less

template <class T>
struct RowsOf {
  const T* data;  // [N, heads, size], null: zeros
  int64_t stride;
};

// The table of the header. Outputs have `heads` heads, `share` of which read one state; z and w have
// `updates` heads that add to one. One of the two is one.
template <class T>
struct Recurrence {
  RowsOf<T> z, w, y, g;
  int gates_of_head;        // columns of g: as many as keys, or one for all of them
  const float* constant_g;  // [Hkv]; null, as g: no decay
  int rows, columns;        // R, C
  int heads, share, updates;
  bool reverse;
  float update_factor, factor;  // of z, of the sums
  int batch;                    // tokens at a time, at most BATCH
  void* out;                    // [N, heads, C], T or float, or null
  int64_t out_stride;
  bool out_is_float;
  Slots start, end;
  // Columns are keys: [chunks, Hkv, K, V], the states as a chunk's last token decays them, before it adds its
  // own. Forward writes them; in reverse their products with the gradients behind the chunk, summed over V,
  // go to across [chunks, Hkv, K]. Or null.
  float* states;
  float* across;
  const int64_t* offsets;
  const int64_t* chunk_offsets;
};

// A lane's 32 values become the sum over lanes of value `lane`: each step hands half of the values to the
// other half of the lanes.
__device__ __forceinline__ float sum_over_lanes(float (&values)[32]) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int half = 16; half > 0; half /= 2) {
    const bool upper = lane & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float other = __shfl_xor_sync(~0u, upper ? values[i] : values[i + half], half);
      values[i] = (upper ? values[i + half] : values[i]) + other;
    }
  }
  return values[0];
}

// One block a sequence, head and COLUMNS columns of X; row l + 32 i of a column is in lane l's registers.
// BY_ROWS: rows are keys, so decays act on them and sums are of the new X.
template <class T, int LANE_ROWS, bool BY_ROWS>
__global__ void __launch_bounds__(THREADS) recur(const __grid_constant__ Recurrence<T> p) {
  constexpr int R = LANE_ROWS * 32;
  extern __shared__ __align__(16) float shared[];
  const int batch = p.batch;
  float* z = shared;                               // [batch, updates, R]
  float* y = z + batch * p.updates * R;            // [batch, R]
  float* w = y + batch * R;                        // [batch, updates, COLUMNS]
  float* decay = w + batch * p.updates * COLUMNS;  // [batch, R or COLUMNS]
  constexpr int DECAYS = BY_ROWS ? R : COLUMNS;
  const unsigned tiles = (p.columns + COLUMNS - 1) / COLUMNS;
  const int c0 = static_cast<int>(blockIdx.x % tiles) * COLUMNS;
  const int head = static_cast<int>(blockIdx.x / tiles % p.heads), kv_head = head / p.share;
  const int64_t s = blockIdx.x / tiles / p.heads, kv_heads = p.heads / p.share;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int64_t begin = p.offsets[s], end = p.offsets[s + 1];
  const int keys = BY_ROWS ? p.rows : p.columns;
  const int64_t elements = static_cast<int64_t>(p.rows) * p.columns;

  const float constant = p.constant_g != nullptr ? expf(p.constant_g[kv_head]) : 1.0f;
  const auto decay_at = [&](int64_t t, int key) {
    return p.g.data == nullptr || key >= keys
               ? constant
               : expf(as_float(p.g.data[t * p.g.stride + static_cast<int64_t>(kv_head) * p.gates_of_head +
                                        min(key, p.gates_of_head - 1)]));
  };
  // Element (row, column) of X in a [K, V] state.
  const auto place = [&](int row, int column) {
    return BY_ROWS ? static_cast<int64_t>(row) * p.columns + column
                   : static_cast<int64_t>(column) * p.rows + row;
  };
  const auto visit = [&](const auto& body) {
#pragma unroll
    for (int c = 0; c < WARP_COLUMNS; ++c) {
#pragma unroll
      for (int i = 0; i < LANE_ROWS; ++i) {
        const int row = lane + 32 * i, column = c0 + warp * WARP_COLUMNS + c;
        if (row < p.rows && column < p.columns) body(c, i, row, column);
      }
    }
  };
  const auto state_of = [&](auto* states, int64_t row) {
    return states + (row * kv_heads + kv_head) * elements;
  };

  float x[WARP_COLUMNS][LANE_ROWS] = {};
  const int64_t start_slot = p.start.read != nullptr ? p.start.of_sequence[s] : -1;
  if (start_slot >= 0) {
    const float* from = state_of(p.start.read, start_slot);
    visit([&](int c, int i, int row, int column) { x[c][i] = from[place(row, column)]; });
  }
  const auto fill = [&](float* to, int size, const RowsOf<T>& from, int64_t t, int source, int first,
                        int count, float factor) {
    for (int i = static_cast<int>(threadIdx.x); i < size; i += THREADS) {
      to[i] =
          from.data != nullptr && first + i < count
              ? factor *
                    as_float(from.data[t * from.stride + static_cast<int64_t>(source) * count + first + i])
              : 0.0f;
    }
  };
  const int64_t batches = (end - begin + batch - 1) / batch;
  for (int64_t n = 0; n < batches; ++n) {
    const int64_t first = begin + (p.reverse ? batches - 1 - n : n) * batch;
    const int count = static_cast<int>(min(static_cast<int64_t>(batch), end - first));
    // In reverse X is the gradient without the decay of the token behind; at a chunk's end it is wanted with
    // it.
    if (p.reverse && p.across != nullptr && ((first + count - begin) % CHUNK == 0 || first + count == end)) {
      const int64_t chunk = p.chunk_offsets[s] + (first + count - 1 - begin) / CHUNK;
      const float* state = state_of(p.states, chunk);
      float dots[WARP_COLUMNS] = {};
      visit([&](int c, int i, int row, int column) { dots[c] += x[c][i] * state[place(row, column)]; });
#pragma unroll
      for (int c = 0; c < WARP_COLUMNS; ++c) {
        for (int half = 16; half > 0; half /= 2) dots[c] += __shfl_xor_sync(~0u, dots[c], half);
        const int column = c0 + warp * WARP_COLUMNS + c;
        if (lane == 0 && column < p.columns) {
          const float behind = first + count < end ? decay_at(first + count, column) : 1.0f;
          p.across[(chunk * kv_heads + kv_head) * p.columns + column] = dots[c] * behind;
        }
      }
    }
    __syncthreads();
    for (int j = 0; j < count; ++j) {
      const int64_t t = first + j;
      for (int r = 0; r < p.updates; ++r) {
        const int source = kv_head * p.updates + r;
        fill(z + (j * p.updates + r) * R, R, p.z, t, source, 0, p.rows, p.update_factor);
        fill(w + (j * p.updates + r) * COLUMNS, COLUMNS, p.w, t, source, c0, p.columns, 1.0f);
      }
      fill(y + j * R, R, p.y, t, head, 0, p.rows, 1.0f);
      const int64_t decayed = p.reverse ? t + 1 : t;
      for (int i = static_cast<int>(threadIdx.x); i < DECAYS; i += THREADS) {
        decay[j * DECAYS + i] = decayed < end ? decay_at(decayed, BY_ROWS ? i : c0 + i) : 1.0f;
      }
    }
    __syncthreads();
    float sums[32] = {};  // of token j and column c: j * WARP_COLUMNS + c
#pragma unroll 1
    for (int step = 0; step < count; ++step) {
      float sum[WARP_COLUMNS] = {};
      const int j = p.reverse ? count - 1 - step : step;
      const float* y_row = y + j * R + lane;
      const float* decays = decay + j * DECAYS + (BY_ROWS ? lane : warp * WARP_COLUMNS);
      if (!BY_ROWS) {
#pragma unroll
        for (int i = 0; i < LANE_ROWS; ++i) {
          const float y_here = y_row[32 * i];
#pragma unroll
          for (int c = 0; c < WARP_COLUMNS; ++c) {
            x[c][i] *= decays[c];
            sum[c] += y_here * x[c][i];
          }
        }
        const int64_t behind = first + j + 1;
        if (!p.reverse && p.states != nullptr && head % p.share == 0 &&
            ((behind - begin) % CHUNK == 0 || behind == end)) {
          float* to = state_of(p.states, p.chunk_offsets[s] + (behind - 1 - begin) / CHUNK);
          visit([&](int c, int i, int row, int column) { to[place(row, column)] = x[c][i]; });
        }
      }
      for (int r = 0; r < p.updates; ++r) {
        const float* z_row = z + (j * p.updates + r) * R + lane;
        float w_here[WARP_COLUMNS];
#pragma unroll
        for (int c = 0; c < WARP_COLUMNS; ++c)
          w_here[c] = w[(j * p.updates + r) * COLUMNS + warp * WARP_COLUMNS + c];
#pragma unroll
        for (int i = 0; i < LANE_ROWS; ++i) {
          const float z_here = z_row[32 * i];
          const float before = BY_ROWS && r == 0 ? decays[32 * i] : 1.0f;
#pragma unroll
          for (int c = 0; c < WARP_COLUMNS; ++c) {
            x[c][i] = (BY_ROWS ? before * x[c][i] : x[c][i]) + z_here * w_here[c];
          }
        }
      }
      if (BY_ROWS) {
#pragma unroll
        for (int i = 0; i < LANE_ROWS; ++i) {
          const float y_here = y_row[32 * i];
#pragma unroll
          for (int c = 0; c < WARP_COLUMNS; ++c) sum[c] += y_here * x[c][i];
        }
      }
#pragma unroll
      for (int c = 0; c < WARP_COLUMNS; ++c) sums[step * WARP_COLUMNS + c] = sum[c];
    }
    const float sum = p.factor * sum_over_lanes(sums);
    const int step = lane / WARP_COLUMNS, column = c0 + warp * WARP_COLUMNS + lane % WARP_COLUMNS;
    if (p.out != nullptr && step < count && column < p.columns) {
      const int64_t t = first + (p.reverse ? count - 1 - step : step);
      const int64_t at = t * p.out_stride + static_cast<int64_t>(head) * p.columns + column;
      if (p.out_is_float) {
        static_cast<float*>(p.out)[at] = sum;
      } else {
        static_cast<T*>(p.out)[at] = from_float<T>(sum);
      }
    }
  }
  const int64_t end_slot = p.end.written != nullptr && head % p.share == 0 ? p.end.of_sequence[s] : -1;
  if (end_slot >= 0) {
    float* to = state_of(p.end.written, end_slot);
    const bool behind = p.reverse && begin < end;
    visit([&](int c, int i, int row, int column) {
      to[place(row, column)] = behind ? x[c][i] * decay_at(begin, BY_ROWS ? row : column) : x[c][i];
    });
  }
}

template <class T, int LANE_ROWS, bool BY_ROWS>
void launch(Recurrence<T> p, int64_t sequences, Stream stream) {
  constexpr int R = LANE_ROWS * 32;
  const int64_t token_bytes = ((p.updates + 1) * R + p.updates * COLUMNS + (BY_ROWS ? R : COLUMNS)) * 4;
  p.batch = BATCH;
  while (p.batch > 1 && p.batch * token_bytes > LARGEST_SHARED) p.batch /= 2;
  SLUICE_CHECK(
      p.batch * token_bytes <= LARGEST_SHARED, kUsage,
      "gated linear attention on a GPU: {} query heads a kv head with heads of {} x {} are too many without "
      "tensor cores",
      p.updates, p.rows, p.columns);
  static const cudaError_t allowed = cudaFuncSetAttribute(
      recur<T, LANE_ROWS, BY_ROWS>, cudaFuncAttributeMaxDynamicSharedMemorySize, LARGEST_SHARED);
  SLUICE_CUDA_CHECK(allowed);
  const int64_t blocks = sequences * p.heads * ((p.columns + COLUMNS - 1) / COLUMNS);
  recur<T, LANE_ROWS, BY_ROWS>
      <<<static_cast<unsigned>(blocks), THREADS, static_cast<size_t>(p.batch * token_bytes), stream>>>(p);
  SLUICE_CHECK_LAUNCH("gated_linear_attention recur");
}

template <class T, bool BY_ROWS>
void launch_for_rows(const Recurrence<T>& p, int64_t sequences, Stream stream) {
  if (sequences == 0) return;
  if (p.rows <= 128) return launch<T, 4, BY_ROWS>(p, sequences, stream);
  if (p.rows <= 256) return launch<T, 8, BY_ROWS>(p, sequences, stream);
  if (p.rows <= 512) return launch<T, 16, BY_ROWS>(p, sequences, stream);
  launch<T, 32, BY_ROWS>(p, sequences, stream);  // up to 1024, as the plan sees to
}

constexpr int FINISH_THREADS = 128;

template <class T>
struct Finish {
  RowsOf<T> q, k, v, d_o;
  const float *dq, *dk, *across;  // [N, H, K], [N, Hkv, K], [chunks, Hkv, K] or null
  T *dq_out, *dk_out, *dg_out;    // null: not wanted
  float* head_gate_parts;         // [N, Hkv, K]: dg of each key where heads decay as a whole, or null
  int64_t dq_stride, dk_stride, dg_stride;
  int kv_heads, group, key_size, value_size;
  int64_t sequences;
  const int64_t *offsets, *chunk_offsets;
  float scale;
};

// Adds a token's own part to dq and dk, and sums dg from the chunk's end. One block a chunk and kv head.
template <class T>
__global__ void __launch_bounds__(FINISH_THREADS) finish(const __grid_constant__ Finish<T> p) {
  extern __shared__ __align__(16) float shared[];  // [CHUNK, group]: scale <dO, v>
  const int64_t c = blockIdx.x / p.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x % p.kv_heads), heads = p.kv_heads * p.group;
  const ChunkSpan span = span_of_chunk(p.offsets, p.chunk_offsets, p.sequences, c);
  const int rows = static_cast<int>(span.rows), K = p.key_size, V = p.value_size;
  const int lane = threadIdx.x & 31;
  const auto row_of = [&](const RowsOf<T>& from, int64_t t, int head, int size) {
    return from.data + t * from.stride + static_cast<int64_t>(head) * size;
  };
  for (int i = threadIdx.x >> 5; i < rows * p.group; i += FINISH_THREADS / 32) {
    const int64_t t = span.first + i / p.group;
    float sum = 0.0f;
    if (p.d_o.data != nullptr) {
      const T* d_o = row_of(p.d_o, t, kv_head * p.group + i % p.group, V);
      const T* v = row_of(p.v, t, kv_head, V);
      for (int j = lane; j < V; j += 32) sum += as_float(d_o[j]) * as_float(v[j]);
    }
    for (int half = 16; half > 0; half /= 2) sum += __shfl_xor_sync(~0u, sum, half);
    if (lane == 0) shared[i] = p.scale * sum;
  }
  __syncthreads();
  for (int column = static_cast<int>(threadIdx.x); column < K; column += FINISH_THREADS) {
    float dg = p.across != nullptr ? p.across[(c * p.kv_heads + kv_head) * K + column] : 0.0f;
    for (int i = rows - 1; i >= 0; --i) {
      const int64_t t = span.first + i;
      const float k = as_float(row_of(p.k, t, kv_head, K)[column]);
      float dk = p.dk[(t * p.kv_heads + kv_head) * K + column];
      if (i + 1 < rows) dg -= k * dk;  // across knows nothing of the last token's own key
      for (int r = 0; r < p.group; ++r) {
        const int head = kv_head * p.group + r;
        const float q = as_float(row_of(p.q, t, head, K)[column]), own = shared[i * p.group + r];
        const float dq = p.dq[(t * heads + head) * K + column];
        dg += q * dq;
        dk += own * q;
        if (p.dq_out != nullptr) {
          p.dq_out[t * p.dq_stride + static_cast<int64_t>(head) * K + column] = from_float<T>(dq + own * k);
        }
      }
      const int64_t at = static_cast<int64_t>(kv_head) * K + column;
      if (p.dk_out != nullptr) p.dk_out[t * p.dk_stride + at] = from_float<T>(dk);
      if (p.dg_out != nullptr) p.dg_out[t * p.dg_stride + at] = from_float<T>(dg);
      if (p.head_gate_parts != nullptr) p.head_gate_parts[t * p.kv_heads * K + at] = dg;
    }
  }
}

template <class T, class Params>
Recurrence<T> recurrence_of(const Params& p, bool by_rows, bool reverse) {
  Recurrence<T> r = {};
  r.g = {p.g, p.g_stride}, r.gates_of_head = static_cast<int>(p.key_size);
  if (p.head_g != nullptr) r.g = {p.head_g, p.head_g_stride}, r.gates_of_head = 1;
  r.constant_g = p.constant_g;
  r.rows = static_cast<int>(by_rows ? p.key_size : p.value_size);
  r.columns = static_cast<int>(by_rows ? p.value_size : p.key_size);
  const int group = static_cast<int>(p.heads / p.kv_heads);
  r.heads = static_cast<int>(reverse ? p.kv_heads : p.heads);
  r.share = reverse ? 1 : group, r.updates = reverse ? group : 1;
  r.reverse = reverse;
  r.update_factor = reverse ? static_cast<float>(p.scale) : 1.0f;
  r.factor = reverse ? 1.0f : static_cast<float>(p.scale);
  r.out_is_float = !by_rows;
  r.offsets = p.offsets, r.chunk_offsets = p.chunk_offsets;
  return r;
}

}  // namespace

template <class T>
void run_recurrence(const GatedLinearAttentionForward<T>& p) {
  Recurrence<T> o = recurrence_of<T>(p, true, false);
  o.z = {p.k, p.k_stride}, o.w = {p.v, p.v_stride}, o.y = {p.q, p.q_stride};
  o.out = p.o, o.out_stride = p.o_stride;
  o.start = {p.state_in, p.initial_state, nullptr}, o.end = {p.state_out, nullptr, p.final_state};
  launch_for_rows<T, true>(o, p.sequences, p.stream);
}

template <class T>
void run_recurrence(const GatedLinearAttentionBackward<T>& p, const GatedLinearAttentionPlan& plan) {
  char* workspace = static_cast<char*>(p.workspace);
  const auto part = [&](int64_t first) { return reinterpret_cast<float*>(workspace + first); };
  const RowsOf<T> q = {p.q, p.q_stride}, k = {p.k, p.k_stride}, v = {p.v, p.v_stride},
                  d_o = {p.d_o, p.d_o_stride};
  if (p.dv != nullptr || p.d_initial_state != nullptr) {
    Recurrence<T> dv = recurrence_of<T>(p, true, true);
    dv.z = q, dv.w = d_o, dv.y = k;
    dv.out = p.dv, dv.out_stride = p.dv_stride;
    dv.start = {p.state_out, p.d_final_state, nullptr}, dv.end = {p.state_in, nullptr, p.d_initial_state};
    launch_for_rows<T, true>(dv, p.sequences, p.stream);
  }
  const bool gates = p.dg != nullptr || p.d_head_g != nullptr;
  if ((p.dq == nullptr && p.dk == nullptr && !gates) || p.chunks == 0) return;
  Recurrence<T> dq = recurrence_of<T>(p, false, false);
  dq.z = v, dq.w = k, dq.y = d_o;
  dq.out = part(plan.dq), dq.out_stride = p.heads * p.key_size;
  dq.start = {p.state_in, p.initial_state, nullptr};
  dq.states = gates ? part(plan.states) : nullptr;
  launch_for_rows<T, false>(dq, p.sequences, p.stream);
  Recurrence<T> dk = recurrence_of<T>(p, false, true);
  dk.z = d_o, dk.w = q, dk.y = v;
  dk.out = part(plan.dk), dk.out_stride = p.kv_heads * p.key_size;
  dk.start = {p.state_out, p.d_final_state, nullptr};
  dk.states = dq.states;
  dk.across = gates ? part(plan.across) : nullptr;
  launch_for_rows<T, false>(dk, p.sequences, p.stream);

  Finish<T> f = {};
  f.q = q, f.k = k, f.v = v, f.d_o = d_o;
  f.dq = part(plan.dq), f.dk = part(plan.dk), f.across = dk.across;
  f.dq_out = p.dq, f.dk_out = p.dk, f.dg_out = p.dg;
  f.head_gate_parts = p.d_head_g != nullptr ? part(plan.head_gate_parts) : nullptr;
  f.dq_stride = p.dq_stride, f.dk_stride = p.dk_stride, f.dg_stride = p.dg_stride;
  f.kv_heads = static_cast<int>(p.kv_heads), f.group = static_cast<int>(p.heads / p.kv_heads);
  f.key_size = static_cast<int>(p.key_size), f.value_size = static_cast<int>(p.value_size);
  f.sequences = p.sequences, f.offsets = p.offsets, f.chunk_offsets = p.chunk_offsets;
  f.scale = static_cast<float>(p.scale);
  finish<T><<<static_cast<unsigned>(p.chunks * p.kv_heads), FINISH_THREADS,
              static_cast<size_t>(CHUNK * f.group) * sizeof(float), p.stream>>>(f);
  SLUICE_CHECK_LAUNCH("gated_linear_attention finish");
  if (p.d_head_g != nullptr) {
    sum_head_gate_parts(f.head_gate_parts, p.tokens, p.kv_heads, p.key_size, p.d_head_g, p.d_head_g_stride,
                        p.stream);
  }
}

template void run_recurrence(const GatedLinearAttentionForward<float>&);
template void run_recurrence(const GatedLinearAttentionForward<bfloat16>&);
template void run_recurrence(const GatedLinearAttentionBackward<float>&, const GatedLinearAttentionPlan&);
template void run_recurrence(const GatedLinearAttentionBackward<bfloat16>&, const GatedLinearAttentionPlan&);

}  // namespace sluice::kernels::gla
