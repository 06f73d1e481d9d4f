// Times of the kernels that memory bounds, at sizes of training: hidden, to be run by name.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "gpu/kernel_case.h"
#include "kernels/activation/activation.h"
#include "kernels/activation/gated_activation.h"
#include "kernels/conv/short_convolution.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embed/embedding.h"
#include "kernels/gemm/column_sums.h"
#include "kernels/linear_attention/gated_head_norm.h"
#include "kernels/linear_attention/log_decay_gate.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/scaled_add.h"
#include "kernels/loss/scaled_sum.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optim/adamw.h"
#include "kernels/optim/squared_norm.h"
#include "kernels/rope/rotary.h"

using namespace sluice;
using namespace sluice::test;

namespace {

double milliseconds(const std::function<void()>& launch) {
  constexpr int kRuns = 20;
  cudaEvent_t begin, end;
  SLUICE_CUDA_CHECK(cudaEventCreate(&begin));
  SLUICE_CUDA_CHECK(cudaEventCreate(&end));
  for (int i = 0; i < 3; ++i) launch();
  SLUICE_CUDA_CHECK(cudaEventRecord(begin));
  for (int i = 0; i < kRuns; ++i) launch();
  SLUICE_CUDA_CHECK(cudaEventRecord(end));
  SLUICE_CUDA_CHECK(cudaEventSynchronize(end));
  float total = 0;
  SLUICE_CUDA_CHECK(cudaEventElapsedTime(&total, begin, end));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return static_cast<double>(total) / kRuns;
}

// A copy that moves as many bytes: small ones take longer a byte.
double copy_milliseconds(double bytes) {
  const auto half = static_cast<size_t>(bytes / 2);
  const DeviceArray<char> from(half), to(half);
  return milliseconds(
      [&] { SLUICE_CUDA_CHECK(cudaMemcpyAsync(to.data(), from.data(), half, cudaMemcpyDeviceToDevice)); });
}

void report(const char* name, double bytes, const std::function<void()>& launch) {
  const double ms = milliseconds(launch), copy = copy_milliseconds(bytes);
  std::printf("%-44s %8.4f ms %8.1f GB/s  copy %8.4f ms, %5.1f %% of its speed\n", name, ms,
              bytes / ms * 1e-6, copy, 100 * copy / ms);
}

// Zeros, or small numbers made by repeating a few: time does not depend on them.
template <class T>
struct Device : DeviceArray<T> {
  explicit Device(int64_t count) : DeviceArray<T>(static_cast<size_t>(count)) {
    SLUICE_CUDA_CHECK(cudaMemset(this->data(), 0, static_cast<size_t>(count) * sizeof(T)));
  }
};

using B = bfloat16;

void time_norms() {
  constexpr int64_t R = 16384, C = 2048, n = R * C;
  const Device<B> x(n), h(n), y(n);
  const Device<float> weight(C), rstd(R), dweight(C), stream(n), sum(n);
  kernels::RmsNormForward<B, float> f;
  f.rows = R, f.columns = C, f.h = sum.data(), f.h_stride = C, f.weight = weight.data(), f.y = y.data();
  f.rstd = rstd.data();
  report("rms_norm forward of a stream", 6.0 * n, [&] { kernels::cuda::rms_norm_forward(f); });
  kernels::RmsNormBackward<B, float> b;
  b.rows = R, b.columns = C, b.h = sum.data(), b.h_stride = C, b.weight = weight.data(), b.rstd = rstd.data();
  b.dy = y.data(), b.dy_stride = C, b.dh = stream.data(), b.dh_stride = C, b.dweight = dweight.data();
  b.dresidual = stream.data(), b.rounded = x.data();
  const Device<char> workspace(kernels::cuda::rms_norm_backward_workspace(b));
  b.workspace = workspace.data();
  report("rms_norm backward in a stream", 16.0 * n, [&] { kernels::cuda::rms_norm_backward(b); });
  kernels::GatedHeadNormForward<B> gf;
  gf.rows = R, gf.heads = 4, gf.head_size = 512, gf.o = x.data(), gf.o_stride = C, gf.gate = h.data();
  gf.gate_stride = C, gf.weight = weight.data(), gf.y = y.data(), gf.y_stride = C;
  const Device<float> head_rstd(R * 16);
  gf.rstd = head_rstd.data();
  kernels::GatedHeadNormBackward<B> gb;
  gb.rows = R, gb.o = x.data(), gb.o_stride = C, gb.gate = h.data(), gb.gate_stride = C,
  gb.weight = weight.data();
  gb.rstd = head_rstd.data(), gb.dy = y.data(), gb.dy_stride = C, gb.dweight = dweight.data();
  const Device<B> d_o(n), dgate(n);
  gb.d_o = d_o.data(), gb.d_o_stride = C, gb.dgate = dgate.data(), gb.dgate_stride = C;
  for (const int64_t heads : {2, 4, 16}) {
    gf.heads = gb.heads = heads, gf.head_size = gb.head_size = C / heads;
    const Device<char> head_workspace(kernels::cuda::gated_head_norm_backward_workspace(gb));
    gb.workspace = head_workspace.data();
    const std::string name = "gated_head_norm, heads of " + std::to_string(C / heads);
    report((name + " forward").c_str(), 6.0 * n, [&] { kernels::cuda::gated_head_norm_forward(gf); });
    report((name + " backward").c_str(), 10.0 * n, [&] { kernels::cuda::gated_head_norm_backward(gb); });
  }
}

void time_activations() {
  constexpr int64_t R = 16384, C = 5632, n = R * C;
  const Device<B> gate_up(2 * n), dgate_up(2 * n), y(n);
  kernels::GatedActivationForward<B> f;
  f.rows = R, f.columns = C, f.gate_up = gate_up.data(), f.gate_up_stride = 2 * C, f.y = y.data(),
  f.y_stride = C;
  report("SwiGLU forward 16384 x 5632", 6.0 * n, [&] { kernels::cuda::gated_activation_forward(f); });
  kernels::GatedActivationBackward<B> b;
  b.rows = R, b.columns = C, b.gate_up = gate_up.data(), b.gate_up_stride = 2 * C, b.dy = y.data(),
  b.dy_stride = C;
  b.dgate_up = dgate_up.data(), b.dgate_up_stride = 2 * C;
  report("SwiGLU backward", 10.0 * n, [&] { kernels::cuda::gated_activation_backward(b); });
  b.y = y.data(), b.y_stride = C;
  report("SwiGLU backward with y over dy", 12.0 * n, [&] { kernels::cuda::gated_activation_backward(b); });
  kernels::ActivationForward<B> a;
  a.rows = R, a.columns = C, a.x = gate_up.data(), a.x_stride = 2 * C, a.y = y.data(), a.y_stride = C;
  a.activation = kernels::Activation::kSilu;
  report("SiLU forward", 4.0 * n, [&] { kernels::cuda::activation_forward(a); });
  a.activation = kernels::Activation::kGelu;
  report("GELU forward", 4.0 * n, [&] { kernels::cuda::activation_forward(a); });
  kernels::AddParams<B> add;
  add.rows = R, add.columns = C, add.a = gate_up.data(), add.a_stride = C, add.b = gate_up.data() + n;
  add.b_stride = C, add.y = y.data(), add.y_stride = C;
  report("add", 6.0 * n, [&] { kernels::cuda::add(add); });
  const Device<float> factor(1);
  kernels::ScaledAddParams<B> scaled;
  scaled.rows = R, scaled.columns = C, scaled.factor = factor.data(), scaled.x = gate_up.data(),
  scaled.x_stride = C;
  scaled.y = y.data(), scaled.y_stride = C;
  report("scaled_add", 4.0 * n, [&] { kernels::cuda::scaled_add(scaled); });
  const Device<float> sums(C);
  kernels::ColumnSums<B> columns;
  columns.rows = R, columns.columns = C, columns.x = gate_up.data(), columns.x_stride = C,
  columns.sums = sums.data();
  const Device<char> workspace(kernels::cuda::column_sums_workspace(columns));
  columns.workspace = workspace.data();
  report("column_sums", 2.0 * n, [&] { kernels::cuda::column_sums(columns); });
}

void time_decay_and_rotary() {
  constexpr int64_t R = 32768, C = 1024, n = R * C;
  const Device<B> a(n), g(n), dg(n), da(n);
  kernels::LogDecayGateForward<B> f;
  f.rows = R, f.columns = C, f.a = a.data(), f.a_stride = C, f.g = g.data(), f.g_stride = C;
  report("log_decay_gate forward 32768 x 1024", 4.0 * n, [&] { kernels::cuda::log_decay_gate_forward(f); });
  kernels::LogDecayGateBackward<B> b;
  b.rows = R, b.columns = C, b.a = a.data(), b.a_stride = C, b.dg = dg.data(), b.dg_stride = C,
  b.da = da.data();
  b.da_stride = C;
  report("log_decay_gate backward", 6.0 * n, [&] { kernels::cuda::log_decay_gate_backward(b); });
  constexpr int64_t kPositions = 2048, kHalf = 32, kLargestHalf = 64;
  const Device<float> cosines(kPositions * kLargestHalf), sines(kPositions * kLargestHalf);
  std::vector<int32_t> place;
  for (int64_t row = 0; row < R; ++row) place.push_back(static_cast<int32_t>(row % kPositions));
  const DeviceArray<int32_t> device_place(place);
  kernels::RotaryParams<B> r;
  r.rows = R, r.heads = C / (2 * kHalf), r.half = kHalf, r.place = device_place.data(),
  r.cosines = cosines.data();
  r.sines = sines.data(), r.x = a.data(), r.x_stride = C, r.y = g.data(), r.y_stride = C;
  report("rotary, heads of 64", 4.0 * n, [&] { kernels::cuda::rotary(r); });
  // Queries and keys of a merged projection, where they lie.
  const Device<B> merged(R / 2 * 6144);
  for (const int64_t half : {kHalf, kLargestHalf}) {
    r.rows = R / 2, r.half = half, r.heads = 4096 / (2 * half), r.x = r.y = merged.data();
    r.x_stride = r.y_stride = 6144;
    const std::string name = "rotary in place 16384 x 4096, heads of " + std::to_string(2 * half);
    report(name.c_str(), 4.0 * (R / 2) * 4096, [&] { kernels::cuda::rotary(r); });
  }
}

void time_convolution() {
  constexpr int64_t R = 16384, C = 2048, n = R * C;
  const Device<B> x(n), y(n), du(n), dx(n);
  const Device<float> weight(C * 4);
  const Device<float> dweight(C * 4);
  std::vector<int64_t> offsets, none;
  for (int64_t t = 0; t < R; t += 2048) offsets.push_back(t), none.push_back(-1);
  offsets.push_back(R);
  const DeviceArray<int64_t> device_offsets(offsets), states(none);
  kernels::ShortConvolutionForward<B> f;
  f.tokens = R, f.sequences = R / 2048, f.channels = C, f.width = 4, f.x = x.data(), f.x_stride = C;
  f.weight = weight.data(), f.y = y.data(), f.y_stride = C, f.offsets = device_offsets.data();
  f.state_in = f.state_out = states.data();
  report("short_convolution forward 16384 x 2048, W 4", 4.0 * n,
         [&] { kernels::cuda::short_convolution_forward(f); });
  kernels::ShortConvolutionBackward<B> b;
  b.tokens = R, b.sequences = R / 2048, b.channels = C, b.width = 4, b.x = x.data(), b.x_stride = C;
  b.weight = weight.data(), b.dy = y.data(), b.dy_stride = C, b.du = du.data(), b.dx = dx.data(),
  b.dx_stride = C;
  b.dweight = dweight.data(), b.offsets = device_offsets.data(), b.state_in = b.state_out = states.data();
  const Device<char> workspace(kernels::cuda::short_convolution_backward_workspace(b));
  b.workspace = workspace.data();
  report("short_convolution backward", 10.0 * n, [&] { kernels::cuda::short_convolution_backward(b); });
}

void time_embedding_and_loss() {
  constexpr int64_t R = 16384, C = 2048, V = 32000;
  const Device<B> weight(V * C), y(R * C);
  const Device<float> dweight(V * C);
  const Philox philox(1);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < R; ++i) {
    // About as skewed as text: log-uniform.
    tokens.push_back(static_cast<int32_t>(std::pow(32000.0, philox.uniform(static_cast<uint64_t>(i)))) - 1);
  }
  const DeviceArray<int32_t> text(tokens), same(std::vector<int32_t>(R, 5));
  kernels::EmbeddingForward<B> f;
  f.rows = R, f.columns = C, f.vocabulary = V, f.tokens = text.data(), f.weight = weight.data(),
  f.weight_stride = C;
  f.y = y.data(), f.y_stride = C;
  report("embedding forward 16384 x 2048", 4.0 * R * C, [&] { kernels::cuda::embedding_forward(f); });
  kernels::EmbeddingBackward<B> b;
  b.rows = R, b.columns = C, b.vocabulary = V, b.tokens = text.data(), b.dy = y.data(), b.dy_stride = C;
  b.dweight = dweight.data(), b.dweight_stride = C;
  const Device<char> workspace(kernels::cuda::embedding_backward_workspace(b));
  b.workspace = workspace.data();
  std::vector<int32_t> distinct = tokens;
  std::sort(distinct.begin(), distinct.end());
  const auto count = std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  report("embedding backward, tokens as in text", 2.0 * R * C + 8.0 * static_cast<double>(count) * C,
         [&] { kernels::cuda::embedding_backward(b); });
  b.tokens = same.data();
  report("embedding backward, one token", 2.0 * R * C, [&] { kernels::cuda::embedding_backward(b); });
  constexpr int64_t L = 8192;
  const Device<B> logits(L * V);
  const Device<float> nll(R), loss(1);
  kernels::CrossEntropyParams<B> c;
  c.rows = L, c.columns = V, c.logits = logits.data(), c.logits_stride = V, c.labels = text.data();
  c.nll = nll.data(), c.want_gradient = true;
  report("cross_entropy 8192 x 32000 with gradient", 4.0 * L * V, [&] { kernels::cuda::cross_entropy(c); });
  c.want_gradient = false;
  report("cross_entropy without gradient", 2.0 * L * V, [&] { kernels::cuda::cross_entropy(c); });
  kernels::ScaledSumParams<float> s;
  s.count = R, s.x = nll.data(), s.y = loss.data();
  report("scaled_sum of 16384", 4.0 * R, [&] { kernels::cuda::scaled_sum(s); });
}

void time_optimizer() {
  constexpr int64_t n = 340 << 20;
  const Device<float> weight(n), gradient(n), m(n), v(n);
  const Device<B> compute(n);
  kernels::SquaredNormParams<float> s;
  const Device<double> sum(1);
  const Device<int64_t> non_finite(1);
  s.count = n, s.x = gradient.data(), s.sum = sum.data(), s.non_finite = non_finite.data();
  const Device<char> workspace(kernels::cuda::squared_norm_workspace(s));
  s.workspace = workspace.data();
  report("squared_norm of 340 Mi", 4.0 * n, [&] { kernels::cuda::squared_norm(s); });
  std::vector<kernels::AdamWSegment> segments;
  constexpr int64_t kSegments = 340;
  for (int64_t i = 0; i < kSegments; ++i) segments.push_back({i << 20, (i + 1) << 20, 0.1});
  const DeviceArray<kernels::AdamWSegment> device_segments(segments);
  const DeviceArray<kernels::UpdateControl> control(std::vector<kernels::UpdateControl>(1));
  kernels::AdamWParams<float> a;
  a.weight = weight.data(), a.gradient = gradient.data(), a.m = m.data(), a.v = v.data();
  a.segments = device_segments.data(), a.segment_count = kSegments, a.control = control.data(), a.lr = 1e-3;
  a.compute_weight = compute.data();
  report("adamw of 340 Mi in 340 segments", 30.0 * n, [&] { kernels::cuda::adamw(a); });
}

}  // namespace

TEST_CASE("time of norms", "[.time]") { time_norms(); }
TEST_CASE("time of activations", "[.time]") { time_activations(); }
TEST_CASE("time of decay and rotary", "[.time]") { time_decay_and_rotary(); }
TEST_CASE("time of convolution", "[.time]") { time_convolution(); }
TEST_CASE("time of embedding and loss", "[.time]") { time_embedding_and_loss(); }
TEST_CASE("time of optimizer", "[.time]") { time_optimizer(); }
