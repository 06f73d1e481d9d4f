// One call of softmax attention, forward and backward, on a GPU and by the CPU twin in double on the same
// (rounded) inputs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpu/device_array.h"
#include "kernels/attention/attention_hopper.h"
#include "kernels/attention/softmax_attention.h"
#include "support/catch.h"

namespace sluice::test {

struct AttentionCase {
  std::vector<std::pair<int64_t, int64_t>> lengths = {{64, 64}};  // queries and keys of each sequence
  int64_t heads = 1, kv_heads = 1, head_dim = 64, window = 0;
  int64_t padding = 0;  // elements between rows
  int64_t offset = 0;   // elements before the first row
  bool accumulate = false;
  bool wants_dq = true, wants_dk = true, wants_dv = true;
  double spread = 1;  // of q, k and v
  // Size of the terms of dq and dk, for sequences so short that these cancel in the sum; errors are then
  // relative to it.
  double cancelling = 0;
  // The same for the elements alone, for many sequences, whose second rows cancel nearly.
  double cancelling_elements = 0;

  std::string describe() const {
    std::string text = "D " + std::to_string(head_dim) + ", heads " + std::to_string(heads) + "/" +
                       std::to_string(kv_heads) + ", window " + std::to_string(window) + ", padding " +
                       std::to_string(padding) + "+" + std::to_string(offset) + ", lengths";
    for (const auto& [q, k] : lengths) text += " " + std::to_string(q) + "/" + std::to_string(k);
    return text;
  }
};

struct AttentionOffsets {
  explicit AttentionOffsets(const AttentionCase& c) {
    for (const auto& [queries, keys] : c.lengths) {
      q.push_back(q.back() + queries), k.push_back(k.back() + keys);
      longest_q = std::max(longest_q, queries), longest_k = std::max(longest_k, keys);
    }
  }
  kernels::AttentionShape shape(const AttentionCase& c, const int64_t* q_offsets,
                                const int64_t* k_offsets) const {
    kernels::AttentionShape s;
    s.sequences = static_cast<int64_t>(c.lengths.size());
    s.q_offsets = q_offsets, s.k_offsets = k_offsets, s.longest_q = longest_q, s.longest_k = longest_k;
    s.heads = c.heads, s.kv_heads = c.kv_heads, s.head_dim = c.head_dim, s.window = c.window;
    s.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    return s;
  }
  std::vector<int64_t> q{0}, k{0};
  int64_t longest_q = 0, longest_k = 0;
};

// Bell-shaped values of variance spread^2: the sum of four uniform ones, from one word of a hashed counter
// each.
inline std::vector<double> normal(int64_t count, uint64_t seed, double spread) {
  std::vector<double> values(static_cast<size_t>(count));
  uint64_t counter = seed << 40;
  for (double& value : values) {
    uint64_t x = (counter++) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    const uint64_t sum = (x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48);
    value = (static_cast<double>(sum) / 65536 - 2) * std::sqrt(3.0) * spread;
  }
  return values;
}

// Rows of `columns` values in device memory, `padding` elements apart; what lies between stays poisoned.
template <class T>
class StridedRows {
 public:
  StridedRows(int64_t rows, int64_t columns, const AttentionCase& c)
      : rows_(rows),
        columns_(columns),
        stride_(columns + c.padding),
        offset_(c.offset),
        memory_(static_cast<size_t>(rows * stride_ + offset_)) {}
  StridedRows(const std::vector<double>& dense, int64_t rows, int64_t columns, const AttentionCase& c)
      : StridedRows(rows, columns, c) {
    std::vector<T> host = memory_.to_host();
    for (size_t i = 0; i < dense.size(); ++i) host[place(i)] = rounded_to<T>(dense[i]);
    SLUICE_CUDA_CHECK(
        cudaMemcpy(memory_.data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  }

  T* data() const { return memory_.data() + offset_; }
  int64_t stride() const { return stride_; }
  // Dense; checks that nothing was written between the rows.
  std::vector<double> values() const {
    std::vector<T> host = memory_.to_host();
    std::vector<double> dense(static_cast<size_t>(rows_ * columns_));
    for (size_t i = 0; i < dense.size(); ++i) {
      dense[i] = widened(host[place(i)]);
      std::memset(static_cast<void*>(&host[place(i)]), 0xff, sizeof(T));
    }
    const auto* bytes = reinterpret_cast<const unsigned char*>(host.data());
    CHECK(
        std::all_of(bytes, bytes + host.size() * sizeof(T), [](unsigned char byte) { return byte == 0xff; }));
    return dense;
  }

 private:
  size_t place(size_t i) const {
    const int64_t n = static_cast<int64_t>(i);
    return static_cast<size_t>(offset_ + n / columns_ * stride_ + n % columns_);
  }
  int64_t rows_, columns_, stride_, offset_;
  DeviceArray<T> memory_;
};

// Everything a call writes, dense. Empty where not asked for.
struct AttentionResults {
  std::vector<double> o, lse, dq, dk, dv;
};

// What a gradient's memory holds before it is added to.
template <class T>
std::vector<double> before(const AttentionCase& c, int64_t count, uint64_t seed) {
  return c.accumulate ? as_seen_in<T>(normal(count, seed, 0.5))
                      : std::vector<double>(static_cast<size_t>(count));
}

template <class T>
struct AttentionInputs {
  explicit AttentionInputs(const AttentionCase& c)
      : offsets(c),
        q_rows(offsets.q.back()),
        k_rows(offsets.k.back()),
        q_columns(c.heads * c.head_dim),
        k_columns(c.kv_heads * c.head_dim),
        q(as_seen_in<T>(normal(q_rows * q_columns, 1, c.spread))),
        k(as_seen_in<T>(normal(k_rows * k_columns, 2, c.spread))),
        v(as_seen_in<T>(normal(k_rows * k_columns, 3, c.spread))),
        d_o(as_seen_in<T>(normal(q_rows * q_columns, 4, 1))),
        dq(before<T>(c, q_rows * q_columns, 5)),
        dk(before<T>(c, k_rows * k_columns, 6)),
        dv(before<T>(c, k_rows * k_columns, 7)) {}
  AttentionOffsets offsets;
  int64_t q_rows, k_rows, q_columns, k_columns;
  std::vector<double> q, k, v, d_o;
  std::vector<double> dq, dk, dv;  // before the call
};

template <class T>
AttentionResults expected_results(const AttentionCase& c, const AttentionInputs<T>& in) {
  AttentionResults out;
  out.o.resize(in.q.size()), out.lse.resize(static_cast<size_t>(in.q_rows * c.heads));
  kernels::SoftmaxAttentionForward<double> f;
  f.shape = in.offsets.shape(c, in.offsets.q.data(), in.offsets.k.data());
  f.q = in.q.data(), f.k = in.k.data(), f.v = in.v.data(), f.o = out.o.data(), f.lse = out.lse.data();
  f.q_stride = f.o_stride = in.q_columns, f.k_stride = f.v_stride = in.k_columns;
  kernels::cpu::softmax_attention_forward(f);

  std::vector<double> delta(out.lse.size());
  kernels::SoftmaxAttentionBackward<double> b;
  b.shape = f.shape, b.q = f.q, b.k = f.k, b.v = f.v, b.o = f.o, b.lse = f.lse, b.d_o = in.d_o.data();
  b.q_stride = b.o_stride = b.d_o_stride = b.dq_stride = in.q_columns;
  b.k_stride = b.v_stride = b.dk_stride = b.dv_stride = in.k_columns;
  b.delta = delta.data();
  b.accumulate_dq = b.accumulate_dk = b.accumulate_dv = c.accumulate;
  if (c.wants_dq) out.dq = in.dq, b.dq = out.dq.data();
  if (c.wants_dk) out.dk = in.dk, b.dk = out.dk.data();
  if (c.wants_dv) out.dv = in.dv, b.dv = out.dv.data();
  kernels::cpu::softmax_attention_backward(b);
  return out;
}

// Device memory for a call, and the call.
template <class T>
class AttentionOnDevice {
 public:
  AttentionOnDevice(const AttentionCase& c, const AttentionInputs<T>& in)
      : case_(c),
        q_offsets_(in.offsets.q),
        k_offsets_(in.offsets.k),
        q_(in.q, in.q_rows, in.q_columns, c),
        k_(in.k, in.k_rows, in.k_columns, c),
        v_(in.v, in.k_rows, in.k_columns, c),
        d_o_(in.d_o, in.q_rows, in.q_columns, c),
        o_(in.q_rows, in.q_columns, c),
        dq_(c.accumulate ? in.dq : std::vector<double>(), in.q_rows, in.q_columns, c),
        dk_(c.accumulate ? in.dk : std::vector<double>(), in.k_rows, in.k_columns, c),
        dv_(c.accumulate ? in.dv : std::vector<double>(), in.k_rows, in.k_columns, c),
        lse_(static_cast<size_t>(in.q_rows * c.heads)),
        delta_(static_cast<size_t>(in.q_rows * c.heads)) {
    f_.shape = in.offsets.shape(c, q_offsets_.data(), k_offsets_.data());
    f_.q = q_.data(), f_.k = k_.data(), f_.v = v_.data(), f_.o = o_.data(), f_.lse = lse_.data();
    f_.q_stride = q_.stride(), f_.k_stride = k_.stride(), f_.v_stride = v_.stride(),
    f_.o_stride = o_.stride();
    workspace_ = std::make_unique<DeviceArray<char>>(
        static_cast<size_t>(kernels::cuda::softmax_attention_forward_workspace(f_)));
    f_.workspace = workspace_->data();
    b_.shape = f_.shape, b_.q = f_.q, b_.k = f_.k, b_.v = f_.v, b_.o = f_.o, b_.lse = f_.lse;
    b_.d_o = d_o_.data(), b_.delta = delta_.data();
    b_.q_stride = f_.q_stride, b_.k_stride = f_.k_stride, b_.v_stride = f_.v_stride,
    b_.o_stride = f_.o_stride;
    b_.d_o_stride = d_o_.stride();
    b_.dq = c.wants_dq ? dq_.data() : nullptr, b_.dq_stride = dq_.stride();
    b_.dk = c.wants_dk ? dk_.data() : nullptr, b_.dk_stride = dk_.stride();
    b_.dv = c.wants_dv ? dv_.data() : nullptr, b_.dv_stride = dv_.stride();
    b_.accumulate_dq = b_.accumulate_dk = b_.accumulate_dv = c.accumulate;
    backward_workspace_ = std::make_unique<DeviceArray<char>>(
        static_cast<size_t>(kernels::cuda::softmax_attention_backward_workspace(b_)));
    b_.workspace = backward_workspace_->data();
  }

  void forward(cudaStream_t stream = nullptr) {
    f_.stream = stream;
    kernels::cuda::softmax_attention_forward(f_);
  }
  void backward(cudaStream_t stream = nullptr) {
    b_.stream = stream;
    kernels::cuda::softmax_attention_backward(b_);
  }
  AttentionResults results() const {
    AttentionResults out{o_.values(), lse_.to_doubles(), {}, {}, {}};
    if (case_.wants_dq) out.dq = dq_.values();
    if (case_.wants_dk) out.dk = dk_.values();
    if (case_.wants_dv) out.dv = dv_.values();
    return out;
  }
  kernels::SoftmaxAttentionForward<T>& forward_params() { return f_; }

 private:
  AttentionCase case_;
  DeviceArray<int64_t> q_offsets_, k_offsets_;
  StridedRows<T> q_, k_, v_, d_o_, o_, dq_, dk_, dv_;
  DeviceArray<kernels::accumulate_t<T>> lse_, delta_;
  std::unique_ptr<DeviceArray<char>> workspace_, backward_workspace_;
  kernels::SoftmaxAttentionForward<T> f_;
  kernels::SoftmaxAttentionBackward<T> b_;
};

struct AttentionTolerance {
  double rms, elementwise;
};
// bfloat16: twice the floor of rounding the results alone, which is 1.7e-3; probabilities and dS are rounded
// too.
template <class T>
inline constexpr AttentionTolerance kAttentionTolerance =
    std::is_same_v<T, bfloat16> ? AttentionTolerance{3.4e-3, 6e-2} : AttentionTolerance{1e-5, 1e-3};

// Errors are relative to the RMS of what is expected, or `least` if that is more; those of single elements
// also to that of their row of `columns`, or `least_element`. Returns the relative RMS error.
inline double check_close(const char* name, const std::vector<double>& actual,
                          const std::vector<double>& expected, int64_t columns,
                          const AttentionTolerance& tolerance, double least = 0, double least_element = 0) {
  REQUIRE(actual.size() == expected.size());
  if (expected.empty()) return 0;
  const size_t width = static_cast<size_t>(columns);
  double error = 0, reference = 0;
  std::vector<double> rows(expected.size() / width);  // sums of squares
  for (size_t i = 0; i < actual.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    reference += expected[i] * expected[i];
    rows[i / width] += expected[i] * expected[i];
  }
  const double count = static_cast<double>(expected.size());
  const double rms = std::max(std::sqrt(reference / count), least);
  const double relative = std::sqrt(error / count) / rms;
  size_t worst = 0, outside = 0;
  double most = -1;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double row = std::sqrt(rows[i / width] / static_cast<double>(width));
    const double off =
        std::abs(actual[i] - expected[i]) / std::max({std::abs(expected[i]), rms, row, least_element});
    if (!(off <= tolerance.elementwise)) ++outside;
    if (!(off <= most)) most = off, worst = i;
  }
  INFO(name << ": relative RMS " << relative << ", " << outside << " of " << actual.size()
            << " elements out of bounds, worst " << worst << ": " << actual[worst] << " for "
            << expected[worst]);
  CHECK(relative <= tolerance.rms);
  CHECK(outside == 0);
  return relative;
}

// Whether calls of this kind are served by the kernels of sm_90a, of which gradients have a choice, beside
// others.
template <class T>
bool has_hopper_paths(const AttentionCase& c) {
  return std::is_same_v<T, bfloat16> && (c.head_dim == 64 || c.head_dim == 128) &&
         kernels::cuda::has_hopper_attention();
}

// On every path that serves the case.
template <class T>
void check_attention(const AttentionCase& c) {
  INFO(c.describe());
  const AttentionInputs<T> in(c);
  const AttentionResults expected = expected_results(c, in);
  const int paths = has_hopper_paths<T>(c) ? 3 : 1;
  for (int path = 3 - paths; path < 3; ++path) {
    kernels::allow_hopper_attention(
        path < 2, path == 0 ? kernels::GradientPasses::kOne : kernels::GradientPasses::kTwo);
    const char* const name = sizeof(T) == 4 ? "f32   "
                             : path == 0    ? "wgmma1"
                             : path == 1    ? "wgmma "
                                            : "mma   ";
    INFO("path " << name);
    AttentionOnDevice<T> device(c, in);
    device.forward();
    device.backward();
    const AttentionResults actual = device.results();
    kernels::allow_hopper_attention(true);
    const AttentionTolerance tolerance = kAttentionTolerance<T>;
    const double o = check_close("o", actual.o, expected.o, c.head_dim, tolerance);
    const double lse = check_close("lse", actual.lse, expected.lse, 1, {1e-5, 1e-3});
    const double dq =
        check_close("dq", actual.dq, expected.dq, c.head_dim, tolerance, c.cancelling, c.cancelling_elements);
    const double dk =
        check_close("dk", actual.dk, expected.dk, c.head_dim, tolerance, c.cancelling, c.cancelling_elements);
    const double dv = check_close("dv", actual.dv, expected.dv, c.head_dim, tolerance);
    std::printf("%s o %.1e lse %.1e dq %.1e dk %.1e dv %.1e  %s\n", name, o, lse, dq, dk, dv,
                c.describe().c_str());
  }
}

}  // namespace sluice::test
