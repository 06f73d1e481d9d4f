#include <omp.h>

#include <cstring>

#include "kernels/common/state_slots_cpu.h"
#include "kernels/linear_attention/gated_linear_attention.h"
#include "kernels/linear_attention/recurrence_cpu.h"

namespace sluice::kernels::cpu {
namespace {

// A chunk's states are written and read once: they should come back from the second-level cache.
constexpr int64_t kChunkBytes = 1280 * 1024;

// Rows of keys are padded with zeros to whole vectors.
template <class T>
int64_t padded(int64_t key_size) {
  return (key_size + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// By halves: the order is fixed, and the additions of one level go side by side.
template <int64_t N, class T>
T sum_by_halves(T* lanes) {
  if constexpr (N == 1) {
    return lanes[0];
  } else {
    for (int64_t i = 0; i < N / 2; ++i) lanes[i] += lanes[i + N / 2];
    return sum_by_halves<N / 2>(lanes);
  }
}

template <class T>
T sum_of_lanes(const Vector<T>& vector) {
  alignas(64) T lanes[kLanes<T>];
  std::memcpy(lanes, &vector, sizeof(lanes));
  return sum_by_halves<kLanes<T>>(lanes);
}

// Columns of the values walked at a time: a multiple of 8, and as many as the states of a chunk leave room
// for.
template <class T>
int64_t tile_columns(const GatedLinearAttentionBackward<T>& p) {
  const int64_t column_bytes = (p.chunk + 1) * padded<T>(p.key_size) * static_cast<int64_t>(sizeof(T));
  const int64_t fitting = std::max<int64_t>(8, kChunkBytes / column_bytes / 8 * 8);
  return std::min(fitting, (p.value_size + 7) / 8 * 8);
}

// The gradients of sequence s and one kv head that come from columns [first, first + W) of the values. A
// state is kept transposed, [W, P]: then the sums over V (dq, dk, dg) run down the tile, in order and without
// horizontal additions, and just dv is summed across. Columns past V are zero.
template <class T>
class TileBackward {
 public:
  static int64_t scratch_elements(const GatedLinearAttentionBackward<T>& p) {
    const int64_t P = padded<T>(p.key_size), W = tile_columns(p), group = p.heads / p.kv_heads;
    return (p.chunk + 2) * W * P + p.chunk * P + (group + 4) * P + (group + 2) * W;
  }

  TileBackward(const GatedLinearAttentionBackward<T>& p, int64_t s, int64_t kv_head, int64_t first,
               T* scratch)
      : p_(p),
        s_(s),
        kv_head_(kv_head),
        first_(first),
        width_(std::min(tile_columns(p), p.value_size - first)),
        K_(p.key_size),
        P_(padded<T>(p.key_size)),
        W_(tile_columns(p)),
        group_(p.heads / p.kv_heads),
        states_(scratch),
        d_state_(states_ + (p.chunk + 1) * W_ * P_),
        decay_(d_state_ + W_ * P_),
        q_(decay_ + p.chunk * P_),
        k_(q_ + group_ * P_),
        dq_(k_ + P_),
        dk_(dq_ + P_),
        dg_(dk_ + P_),
        v_(dg_ + P_),
        dv_(v_ + W_),
        d_o_(dv_ + W_) {}

  void run() {
    const bool has_end = p_.d_final_state != nullptr && p_.state_out[s_] >= 0;
    load_tile(has_end ? tile_of(p_.d_final_state, p_.state_out[s_]) : nullptr, d_state_);
    const int64_t begin = p_.offsets[s_], end = p_.offsets[s_ + 1];
    for (int64_t c = (end - begin + p_.chunk - 1) / p_.chunk - 1; c >= 0; --c) {
      const int64_t from = begin + c * p_.chunk, to = std::min(end, from + p_.chunk);
      load_tile(tile_of(p_.chunk_states, p_.chunk_offsets[s_] + c), states_);
      for (int64_t t = from; t < to; ++t) recompute(t, t - from);
      for (int64_t t = to - 1; t >= from; --t) reverse(t, t - from);
    }
    if (p_.d_initial_state != nullptr && p_.state_in[s_] >= 0) {
      T* to = tile_of(p_.d_initial_state, p_.state_in[s_]);
      for (int64_t i = 0; i < K_; ++i) {
        for (int64_t j = 0; j < width_; ++j) to[i * p_.value_size + j] = d_state_[j * P_ + i];
      }
    }
  }

 private:
  template <class State>
  State* tile_of(State* states, int64_t row) const {
    return states + (row * p_.kv_heads + kv_head_) * K_ * p_.value_size + first_;
  }

  // Null stands for zeros.
  void load_tile(const T* from, T* to) const {
    std::fill_n(to, W_ * P_, T(0));
    if (from == nullptr) return;
    for (int64_t i = 0; i < K_; ++i) {
      for (int64_t j = 0; j < width_; ++j) to[j * P_ + i] = from[i * p_.value_size + j];
    }
  }

  void load_row(const T* from, T factor, T* to) const {
    for (int64_t i = 0; i < K_; ++i) to[i] = factor * from[i];
    std::fill_n(to + K_, P_ - K_, T(0));
  }

  void load_token(int64_t t) {
    load_row(p_.k + t * p_.k_stride + kv_head_ * K_, T(1), k_);
    const T* q = p_.q + t * p_.q_stride + kv_head_ * group_ * K_;
    for (int64_t r = 0; r < group_; ++r) load_row(q + r * K_, static_cast<T>(p_.scale), q_ + r * P_);
    std::fill_n(v_, W_, T(0));
    std::copy_n(p_.v + t * p_.v_stride + kv_head_ * p_.value_size + first_, width_, v_);
    std::fill_n(d_o_, group_ * W_, T(0));
    if (p_.d_o == nullptr) return;
    const T* d_o = p_.d_o + t * p_.d_o_stride + kv_head_ * group_ * p_.value_size + first_;
    for (int64_t r = 0; r < group_; ++r) std::copy_n(d_o + r * p_.value_size, width_, d_o_ + r * W_);
  }

  // Sums over V: the first tile writes, the others add, in order.
  void put(const T* from, T* to) const {
    if (first_ == 0) {
      std::copy_n(from, K_, to);
    } else {
#pragma omp simd
      for (int64_t i = 0; i < K_; ++i) to[i] += from[i];
    }
  }

  // states[at + 1] from states[at], and dq of token t.
  void recompute(int64_t t, int64_t at) {
    load_token(t);
    T* decay_row = decay_ + at * P_;
    std::fill_n(decay_row, P_, T(0));
    decays(p_, t, kv_head_, decay_row);
    const int64_t vectors = P_ / kLanes<T>;
    const Vector<T>*k = as_vectors(k_), *decay = as_vectors(decay_row);
    for (int64_t j = 0; j < W_; ++j) {
      const Vector<T>* before = as_vectors(states_ + (at * W_ + j) * P_);
      Vector<T>* after = as_vectors(states_ + ((at + 1) * W_ + j) * P_);
      for (int64_t i = 0; i < vectors; ++i) after[i] = decay[i] * before[i] + k[i] * v_[j];
    }
    if (p_.dq == nullptr) return;
    Vector<T>* dq = as_vectors(dq_);
    for (int64_t r = 0; r < group_; ++r) {
      const T* d_o = d_o_ + r * W_;
      for (int64_t i = 0; i < vectors; ++i) {
        const Vector<T>* after = as_vectors(states_ + (at + 1) * W_ * P_) + i;
        Vector<T> even = {}, odd = {};
        for (int64_t j = 0; j < W_; j += 2) {
          even += after[j * vectors] * d_o[j];
          odd += after[(j + 1) * vectors] * d_o[j + 1];
        }
        dq[i] = static_cast<T>(p_.scale) * (even + odd);
      }
      put(dq_, p_.dq + t * p_.dq_stride + (kv_head_ * group_ + r) * K_);
    }
  }

  // On entry d_state is the gradient of S_t from later tokens, on return that of S_{t-1}.
  void reverse(int64_t t, int64_t at) {
    load_token(t);
    std::fill_n(dk_, P_, T(0));
    std::fill_n(dg_, P_, T(0));
    const int64_t vectors = P_ / kLanes<T>;
    const Vector<T>*k = as_vectors(k_), *q = as_vectors(q_), *decay = as_vectors(decay_ + at * P_);
    Vector<T>*dk = as_vectors(dk_), *dg = as_vectors(dg_);
    // Two columns at a time, so that dk and dg are loaded and stored half as often.
    for (int64_t j = 0; j < W_; j += 2) {
      const Vector<T>* before = as_vectors(states_ + (at * W_ + j) * P_);
      Vector<T>* d_state = as_vectors(d_state_ + j * P_);
      for (int64_t r = 1; r < group_; ++r) {
        const T o0 = d_o_[r * W_ + j], o1 = d_o_[r * W_ + j + 1];
        for (int64_t i = 0; i < vectors; ++i) {
          d_state[i] += q[r * vectors + i] * o0;
          d_state[vectors + i] += q[r * vectors + i] * o1;
        }
      }
      Vector<T> dv0 = {}, dv1 = {};
      for (int64_t i = 0; i < vectors; ++i) {
        const Vector<T> ds0 = d_state[i] + q[i] * d_o_[j], ds1 = d_state[vectors + i] + q[i] * d_o_[j + 1];
        dk[i] += ds0 * v_[j] + ds1 * v_[j + 1];
        dg[i] += ds0 * before[i] + ds1 * before[vectors + i];
        dv0 += k[i] * ds0;
        dv1 += k[i] * ds1;
        d_state[i] = decay[i] * ds0;
        d_state[vectors + i] = decay[i] * ds1;
      }
      dv_[j] = sum_of_lanes<T>(dv0), dv_[j + 1] = sum_of_lanes<T>(dv1);
    }
    if (p_.dv != nullptr) {
      std::copy_n(dv_, width_, p_.dv + t * p_.dv_stride + kv_head_ * p_.value_size + first_);
    }
    if (p_.dk != nullptr) put(dk_, p_.dk + t * p_.dk_stride + kv_head_ * K_);
    if (p_.dg == nullptr && p_.d_head_g == nullptr) return;
    for (int64_t i = 0; i < vectors; ++i) dg[i] *= decay[i];
    if (p_.dg != nullptr) put(dg_, p_.dg + t * p_.dg_stride + kv_head_ * K_);
    if (p_.d_head_g == nullptr) return;
    T sum = 0;
    for (int64_t i = 0; i < K_; ++i) sum += dg_[i];
    T& to = p_.d_head_g[t * p_.d_head_g_stride + kv_head_];
    to = first_ == 0 ? sum : to + sum;
  }

  const GatedLinearAttentionBackward<T>& p_;
  const int64_t s_, kv_head_, first_, width_, K_, P_, W_, group_;  // P: K padded
  T* const states_;   // [chunk + 1, W, P]: S before each token of the chunk, and after the last
  T* const d_state_;  // [W, P]
  T* const decay_;    // [chunk, P]
  T* const q_;        // [group, P], times scale
  T* const k_;        // [P], as the next three
  T* const dq_;
  T* const dk_;
  T* const dg_;
  T* const v_;    // [W]
  T* const dv_;   // [W]
  T* const d_o_;  // [group, W]
};

}  // namespace

template <class T>
void gated_linear_attention_backward(const GatedLinearAttentionBackward<T>& p) {
  if (p.d_initial_state != nullptr) {
    zero_unnamed_slots(p.d_initial_state, p.slots, p.kv_heads * p.key_size * p.value_size, p.state_in,
                       p.sequences);
  }
  const int64_t tasks = p.sequences * p.kv_heads, columns = tile_columns(p);
  const int64_t updates = (p.tokens + p.sequences) * p.kv_heads * p.key_size * p.value_size;
  const ThreadScratch<T> scratch(omp_get_max_threads(), TileBackward<T>::scratch_elements(p));
#pragma omp parallel for schedule(dynamic) if (updates > kParallelUpdates)
  for (int64_t task = 0; task < tasks; ++task) {
    T* memory = scratch.of(omp_get_thread_num());
    for (int64_t first = 0; first < p.value_size; first += columns) {
      TileBackward<T>(p, task / p.kv_heads, task % p.kv_heads, first, memory).run();
    }
  }
}

template void gated_linear_attention_backward(const GatedLinearAttentionBackward<float>&);
template void gated_linear_attention_backward(const GatedLinearAttentionBackward<double>&);

}  // namespace sluice::kernels::cpu
