// One call of gated linear attention, forward and backward, on the GPU and by the CPU twin in double on the
// inputs as the GPU sees them. On the device all arrays are slices of the same rows, as a merged projection
// leaves them.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gpu/device_array.h"
#include "kernels/linear_attention/gated_linear_attention.h"

namespace sluice::test {

using Doubles = std::vector<double>;

// What decays: each channel of a head by itself, a head as a whole, or a head as a whole the same at all
// tokens.
enum class GlaDecay { kChannels, kHeads, kConstant };

// Gate of a random normal x at a token and channel; null: none.
using GlaGate = std::function<double(double x, int64_t token, int64_t channel)>;

inline GlaGate weak_gates() {
  return [](double x, int64_t, int64_t) { return -1e-3 * std::abs(x); };
}
inline GlaGate log_sigmoid_gates(double normaliser) {
  return [=](double x, int64_t, int64_t) { return -std::log1p(std::exp(-x)) / normaliser; };
}
// About `level`, which is negative.
inline GlaGate gates_about(double level) {
  return [=](double x, int64_t, int64_t) { return level - 0.1 * std::abs(x); };
}
// Small ones, and at some tokens, others for each channel, -40 or -1e4.
inline GlaGate mixed_gates(int64_t period, int64_t longer_period) {
  return [=](double x, int64_t token, int64_t channel) {
    if ((token * 7 + channel) % period == 0) return -40.0;
    if ((token * 3 + channel) % longer_period == 0) return -1e4;
    return -0.02 * std::abs(x);
  };
}
inline GlaGate gates_with_infinities() {
  return [](double x, int64_t token, int64_t channel) {
    return (token + channel) % 13 == 0 ? -std::numeric_limits<double>::infinity() : -0.1 * std::abs(x);
  };
}

struct GlaCase {
  std::vector<int64_t> lengths;
  int64_t heads = 1, kv_heads = 1, key_size = 64, value_size = 64;
  GlaGate gate = log_sigmoid_gates(16);  // as the model has them
  GlaDecay decay = GlaDecay::kChannels;  // gate's channel is the kv head where heads decay as a whole
  bool states = true;                    // initial and final ones, and their gradients
  bool d_o = true;                       // a gradient comes in through o
  int64_t shift = 0;                     // of all slices in the rows, in elements
  int64_t stride = 0;                    // of the rows, 0: as wide as they must be and 8 more
  double scale = 0;                      // 0: K^-1/2
  int64_t longest = 0;
  bool backward = true;

  // Gates of a token, and whether they have gradients.
  int64_t gates() const { return decay == GlaDecay::kChannels ? kv_heads * key_size : kv_heads; }
  bool gated() const { return gate && decay != GlaDecay::kConstant; }
  int64_t tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }
};

struct GlaArrays {
  Doubles q, k, v, g, d_o, initial, d_final;          // inputs
  Doubles o, final_state, dq, dk, dv, dg, d_initial;  // outputs
  std::vector<int64_t> offsets, state_in, state_out, chunks;
  int64_t slots = 0;
  double dg_terms =
      0;  // RMS of the norms of what the gates' gradients are sums of, where heads decay as a whole
};

inline Doubles normal(size_t count, std::mt19937_64& random) {
  std::normal_distribution<double> distribution;
  Doubles values(count);
  for (double& value : values) value = distribution(random);
  return values;
}

template <class T>
GlaArrays inputs_of(const GlaCase& c, uint64_t seed) {
  std::mt19937_64 random(seed);
  GlaArrays a;
  const int64_t N = c.tokens(), S = static_cast<int64_t>(c.lengths.size());
  const auto draw = [&](int64_t rows, int64_t columns) {
    return as_seen_in<T>(normal(static_cast<size_t>(rows * columns), random));
  };
  a.q = draw(N, c.heads * c.key_size), a.k = draw(N, c.kv_heads * c.key_size);
  a.v = draw(N, c.kv_heads * c.value_size), a.d_o = draw(N, c.heads * c.value_size);
  if (!c.d_o) std::fill(a.d_o.begin(), a.d_o.end(), 0.0);
  const int64_t channels = c.gates(), rows = c.decay == GlaDecay::kConstant ? 1 : N;
  if (c.gate) {
    a.g = normal(static_cast<size_t>(rows * channels), random);
    for (int64_t i = 0; i < rows * channels; ++i) {
      a.g[static_cast<size_t>(i)] = c.gate(a.g[static_cast<size_t>(i)], i / channels, i % channels);
    }
    a.g = rows == N && c.gated() ? as_seen_in<T>(a.g) : as_seen_in<float>(a.g);
  }
  a.offsets = {0};
  for (const int64_t length : c.lengths) a.offsets.push_back(a.offsets.back() + length);
  a.chunks = kernels::chunk_offsets(a.offsets.data(), S, 64);
  a.slots = S + 2;
  for (int64_t s = 0; s < S; ++s) {
    a.state_in.push_back(s % 3 == 2 ? -1 : s + 1);
    a.state_out.push_back(s % 4 == 3 ? -1 : S - s);
  }
  const size_t elements = static_cast<size_t>(a.slots * c.kv_heads * c.key_size * c.value_size);
  a.initial = as_seen_in<float>(normal(elements, random));
  // About as large as the gradients that outputs leave in the states.
  a.d_final = normal(elements, random);
  for (double& value : a.d_final) value *= 0.25;
  a.d_final = as_seen_in<float>(a.d_final);
  return a;
}

template <class Params>
void fill_sizes(Params& p, const GlaCase& c, const GlaArrays& a) {
  p.tokens = c.tokens(), p.sequences = static_cast<int64_t>(c.lengths.size());
  p.heads = c.heads, p.kv_heads = c.kv_heads, p.key_size = c.key_size, p.value_size = c.value_size;
  p.scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.key_size));
  p.slots = a.slots, p.chunks = a.chunks.back();
}

// The outputs by the recurrence in double.
inline void run_on_cpu(const GlaCase& c, GlaArrays& a) {
  const int64_t QK = c.heads * c.key_size, KK = c.kv_heads * c.key_size;
  const int64_t OV = c.heads * c.value_size, KV = c.kv_heads * c.value_size;
  Doubles chunk_states(static_cast<size_t>(a.chunks.back() * KK * c.value_size));
  kernels::GatedLinearAttentionForward<double> f;
  fill_sizes(f, c, a);
  const auto fill_inputs = [&](auto& p) {
    p.q = a.q.data(), p.q_stride = QK, p.k = a.k.data(), p.k_stride = KK, p.v = a.v.data(), p.v_stride = KV;
    const double* g = a.g.empty() ? nullptr : a.g.data();
    p.g = c.decay == GlaDecay::kChannels ? g : nullptr, p.g_stride = KK;
    p.head_g = c.decay == GlaDecay::kHeads ? g : nullptr, p.head_g_stride = c.kv_heads;
    p.constant_g = c.decay == GlaDecay::kConstant ? g : nullptr;
    p.offsets = a.offsets.data(), p.state_in = a.state_in.data(), p.state_out = a.state_out.data();
    p.chunk_offsets = a.chunks.data(), p.chunk_states = chunk_states.data();
  };
  fill_inputs(f);
  a.o.assign(a.d_o.size(), 0), f.o = a.o.data(), f.o_stride = OV;
  if (c.states) {
    a.final_state.assign(a.initial.size(), 0);
    f.initial_state = a.initial.data(), f.final_state = a.final_state.data();
  }
  kernels::cpu::gated_linear_attention_forward(f);
  if (!c.backward) return;
  kernels::GatedLinearAttentionBackward<double> b;
  fill_sizes(b, c, a);
  fill_inputs(b);
  b.d_o = a.d_o.data(), b.d_o_stride = OV;
  a.dq.assign(a.q.size(), 0), a.dk.assign(a.k.size(), 0), a.dv.assign(a.v.size(), 0),
      a.dg.assign(a.g.size(), 0);
  b.dq = a.dq.data(), b.dq_stride = QK, b.dk = a.dk.data(), b.dk_stride = KK, b.dv = a.dv.data(),
  b.dv_stride = KV;
  if (c.gated() && c.decay == GlaDecay::kChannels) b.dg = a.dg.data(), b.dg_stride = KK;
  if (c.gated() && c.decay == GlaDecay::kHeads) b.d_head_g = a.dg.data(), b.d_head_g_stride = c.kv_heads;
  if (c.states) {
    a.d_initial.assign(a.initial.size(), 0);
    b.d_final_state = a.d_final.data(), b.d_initial_state = a.d_initial.data();
  }
  kernels::cpu::gated_linear_attention_backward(b);
  if (!c.gated() || c.decay != GlaDecay::kHeads) return;
  // The same gates for each channel: the gradients of those.
  Doubles g, terms(a.g.size() * static_cast<size_t>(c.key_size));
  for (const double gate : a.g) g.insert(g.end(), static_cast<size_t>(c.key_size), gate);
  b.head_g = nullptr, b.d_head_g = nullptr, b.d_initial_state = nullptr;
  b.dq = b.dk = b.dv = nullptr;
  b.g = g.data(), b.g_stride = KK, b.dg = terms.data(), b.dg_stride = KK;
  kernels::cpu::gated_linear_attention_backward(b);
  double sum = 0;
  for (const double term : terms) sum += term * term;
  a.dg_terms = std::sqrt(sum / std::max<double>(1, static_cast<double>(a.g.size())));
}

// The same on the GPU, into a's outputs. Runs twice from a CUDA graph: `same_bits` says whether both runs
// left the same, `untouched` whether the memory between the slices and behind the workspaces kept its bytes.
template <class T>
class GpuRun {
 public:
  GpuRun(const GlaCase& c, const GlaArrays& inputs) : case_(c), arrays_(inputs) {
    const int64_t QK = c.heads * c.key_size, KK = c.kv_heads * c.key_size;
    const int64_t OV = c.heads * c.value_size, KV = c.kv_heads * c.value_size;
    int64_t at = c.shift;
    for (const auto& [name, width] : std::vector<std::pair<std::string, int64_t>>{{"q", QK},
                                                                                  {"k", KK},
                                                                                  {"v", KV},
                                                                                  {"g", c.gates()},
                                                                                  {"d_o", OV},
                                                                                  {"o", OV},
                                                                                  {"dq", QK},
                                                                                  {"dk", KK},
                                                                                  {"dv", KV},
                                                                                  {"dg", c.gates()}}) {
      slices_[name] = {at, width};
      at += (width + 7) / 8 * 8 + 8;
    }
    stride_ = std::max(c.stride, (at + 7) / 8 * 8);
    void* rows = nullptr;
    SLUICE_CUDA_CHECK(cudaMalloc(&rows, bytes() + 1));
    rows_ = static_cast<T*>(rows);
    SLUICE_CUDA_CHECK(cudaMemset(rows_, 0xff, bytes()));
    SLUICE_CUDA_CHECK(cudaStreamCreate(&stream_));
    upload("q", inputs.q), upload("k", inputs.k), upload("v", inputs.v);
    if (c.gated()) upload("g", inputs.g);
    upload("d_o", inputs.d_o);
  }
  ~GpuRun() {
    cudaFree(rows_);
    cudaStreamDestroy(stream_);
  }
  GpuRun(const GpuRun&) = delete;
  GpuRun& operator=(const GpuRun&) = delete;

  void run() {
    const GlaCase& c = case_;
    const DeviceArray<int64_t> offsets(arrays_.offsets), in(arrays_.state_in), out(arrays_.state_out),
        chunks(arrays_.chunks);
    const DeviceArray<float> initial(arrays_.initial), d_final(arrays_.d_final);
    const bool constant = c.gate && c.decay == GlaDecay::kConstant;
    const bool by_heads = c.gate && c.decay == GlaDecay::kHeads,
               by_channels = c.gate && !constant && !by_heads;
    const DeviceArray<float> constants(constant ? arrays_.g : Doubles{});
    const DeviceArray<float> final_state(arrays_.initial.size()), d_initial(arrays_.initial.size());
    kernels::GatedLinearAttentionForward<T> f;
    kernels::GatedLinearAttentionBackward<T> b;
    const auto fill = [&](auto& p) {
      fill_sizes(p, c, arrays_);
      p.q = slice("q"), p.k = slice("k"), p.v = slice("v"), p.g = by_channels ? slice("g") : nullptr;
      p.head_g = by_heads ? slice("g") : nullptr, p.head_g_stride = stride_;
      p.constant_g = constant ? constants.data() : nullptr;
      p.q_stride = p.k_stride = p.v_stride = p.g_stride = stride_;
      p.offsets = offsets.data(), p.state_in = in.data(), p.state_out = out.data();
      p.chunk_offsets = chunks.data();
      p.initial_state = c.states ? initial.data() : nullptr;
      p.stream = stream_;
    };
    fill(f), fill(b);
    f.longest = c.longest;
    f.o = slice("o"), f.o_stride = stride_;
    f.final_state = c.states ? final_state.data() : nullptr;
    b.d_o = c.d_o ? slice("d_o") : nullptr;
    b.dq = slice("dq"), b.dk = slice("dk"), b.dv = slice("dv"), b.dg = by_channels ? slice("dg") : nullptr;
    b.d_head_g = by_heads ? slice("dg") : nullptr, b.d_head_g_stride = stride_;
    b.d_o_stride = b.dq_stride = b.dk_stride = b.dv_stride = b.dg_stride = stride_;
    b.d_final_state = c.states ? d_final.data() : nullptr;
    b.d_initial_state = c.states ? d_initial.data() : nullptr;
    const size_t f_bytes = static_cast<size_t>(kernels::cuda::gated_linear_attention_forward_workspace(f)),
                 b_bytes = static_cast<size_t>(kernels::cuda::gated_linear_attention_backward_workspace(b));
    const DeviceArray<char> f_workspace(f_bytes + kGuard), b_workspace(b_bytes + kGuard);
    f.workspace = f_workspace.data(), b.workspace = b_workspace.data();

    cudaGraph_t graph;
    cudaGraphExec_t exec;
    SLUICE_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    kernels::cuda::gated_linear_attention_forward(f);
    if (c.backward) kernels::cuda::gated_linear_attention_backward(b);
    SLUICE_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    SLUICE_CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
    for (int round = 0; round < 2; ++round) {
      SLUICE_CUDA_CHECK(cudaGraphLaunch(exec, stream_));
      SLUICE_CUDA_CHECK(cudaStreamSynchronize(stream_));
      std::vector<Doubles> results = {download("o")};
      if (c.backward) {
        for (const char* name : {"dq", "dk", "dv", "dg"}) results.push_back(download(name));
      }
      if (c.states) {
        results.push_back(final_state.to_doubles());
        if (c.backward) results.push_back(d_initial.to_doubles());
      }
      if (round == 0) {
        first_ = results;
      } else {
        same_bits = true;
        for (size_t i = 0; i < results.size(); ++i) {
          same_bits =
              same_bits && std::equal(results[i].begin(), results[i].end(), first_[i].begin(),
                                      [](double x, double y) { return x == y || (x != x && y != y); });
        }
      }
    }
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    size_t next = 0;
    results.o = first_[next++];
    if (c.backward) {
      results.dq = first_[next++], results.dk = first_[next++];
      results.dv = first_[next++], results.dg = first_[next++];
    }
    if (c.states) results.final_state = first_[next++];
    if (c.states && c.backward) results.d_initial = first_[next++];
    if (c.stride < kHugeStride) check_gaps();
    check_guard(f_workspace, f_bytes), check_guard(b_workspace, b_bytes);
  }

  static constexpr int64_t kHugeStride = int64_t{1} << 20;
  static constexpr size_t kGuard = size_t{1} << 20;  // bytes behind a workspace
  GlaArrays results;
  bool same_bits = false, untouched = true;

 private:
  size_t bytes() const { return static_cast<size_t>(case_.tokens() * stride_) * sizeof(T); }
  T* slice(const std::string& name) const { return rows_ + slices_.at(name).first; }

  void upload(const std::string& name, const Doubles& values) {
    const size_t width = static_cast<size_t>(slices_.at(name).second) * sizeof(T);
    if (values.empty()) return;
    std::vector<T> host;
    for (const double value : values) host.push_back(rounded_to<T>(value));
    SLUICE_CUDA_CHECK(cudaMemcpy2D(slice(name), static_cast<size_t>(stride_) * sizeof(T), host.data(), width,
                                   width, static_cast<size_t>(case_.tokens()), cudaMemcpyHostToDevice));
  }
  Doubles download(const std::string& name) const {
    const size_t width = static_cast<size_t>(slices_.at(name).second),
                 rows = static_cast<size_t>(case_.tokens());
    std::vector<T> host(rows * width);
    if (!host.empty()) {
      SLUICE_CUDA_CHECK(cudaMemcpy2D(host.data(), width * sizeof(T), slice(name),
                                     static_cast<size_t>(stride_) * sizeof(T), width * sizeof(T), rows,
                                     cudaMemcpyDeviceToHost));
    }
    Doubles values;
    for (const T value : host) values.push_back(widened(value));
    return values;
  }
  void check_guard(const DeviceArray<char>& workspace, size_t used) {
    std::vector<char> guard(kGuard);
    SLUICE_CUDA_CHECK(cudaMemcpy(guard.data(), workspace.data() + used, kGuard, cudaMemcpyDeviceToHost));
    for (const char byte : guard) untouched = untouched && byte == '\xff';
  }
  void check_gaps() {
    std::vector<T> host(bytes() / sizeof(T));
    SLUICE_CUDA_CHECK(cudaMemcpy(host.data(), rows_, bytes(), cudaMemcpyDeviceToHost));
    std::vector<char> used(static_cast<size_t>(stride_), 0);
    for (const auto& [name, place] : slices_) {
      std::fill_n(used.begin() + place.first, place.second, char{1});
    }
    for (size_t i = 0; i < host.size(); ++i) {
      if (used[i % used.size()]) continue;
      const unsigned char* element = reinterpret_cast<const unsigned char*>(&host[i]);
      for (size_t byte = 0; byte < sizeof(T); ++byte) untouched = untouched && element[byte] == 0xff;
    }
  }

  const GlaCase case_;
  const GlaArrays& arrays_;
  std::map<std::string, std::pair<int64_t, int64_t>> slices_;
  int64_t stride_ = 0;
  T* rows_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::vector<Doubles> first_;
};

// RMS(error) / RMS(reference), and the largest error over |reference| + RMS(reference). NaN counts as
// infinite, and so does anything but zero where the reference is zero throughout.
struct Difference {
  double rms = 0, largest = 0;
};
inline Difference difference(const Doubles& got, const Doubles& reference) {
  const double kInfinity = std::numeric_limits<double>::infinity();
  if (got.size() != reference.size()) return {kInfinity, kInfinity};
  double squares = 0, errors = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    squares += reference[i] * reference[i];
    errors += (got[i] - reference[i]) * (got[i] - reference[i]);
  }
  if (!(errors < kInfinity)) return {kInfinity, kInfinity};
  if (errors == 0) return {};
  if (squares == 0) return {kInfinity, kInfinity};
  const double rms = std::sqrt(squares / static_cast<double>(got.size()));
  Difference d{std::sqrt(errors / squares), 0};
  for (size_t i = 0; i < got.size(); ++i) {
    d.largest = std::max(d.largest, std::abs(got[i] - reference[i]) / (std::abs(reference[i]) + rms));
  }
  return d;
}

}  // namespace sluice::test
