#include "gpu/kernel_case.h"
#include "kernels/conv/short_convolution.h"

using namespace sluice;
using namespace sluice::test;
using kernels::ShortConvolutionBackward;
using kernels::ShortConvolutionForward;

namespace {

struct ConvolutionCase {
  std::vector<int64_t> offsets, state_in, state_out;
  int64_t slots, channels, width;
  Layout layout;
  bool silu, with_states, accumulate;
};

struct Indices {
  explicit Indices(const ConvolutionCase& c) : offsets(c.offsets), in(c.state_in), out(c.state_out) {}
  DeviceArray<int64_t> offsets, in, out;
};

// What both passes' params have in common.
template <class Params>
void fill(Params& p, const ConvolutionCase& c, const int64_t* offsets, const int64_t* in,
          const int64_t* out) {
  p.tokens = c.offsets.back(), p.sequences = static_cast<int64_t>(c.state_in.size());
  p.channels = c.channels, p.width = c.width, p.silu = c.silu;
  p.offsets = offsets, p.state_in = in, p.state_out = out, p.slots = c.slots;
}

template <class T>
void check_forward(const ConvolutionCase& c) {
  const Indices indices(c);
  const Layout dense = c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense;
  const int64_t tokens = c.offsets.back(), state = c.slots * (c.width - 1) * c.channels;
  Matrix<T> x(tokens, c.channels, c.layout, 1);
  Matrix<kernels::accumulate_t<T>> weight(1, c.channels * c.width, dense, 2);
  Matrix<T> y(tokens, c.channels, c.layout, 0, 0), initial(1, state, dense, 3), final(1, state, dense, 0, 0);
  ShortConvolutionForward<double> expected;
  ShortConvolutionForward<T> actual;
  fill(expected, c, c.offsets.data(), c.state_in.data(), c.state_out.data());
  fill(actual, c, indices.offsets.data(), indices.in.data(), indices.out.data());
  expected.x = x.host(), actual.x = x.device(), expected.x_stride = actual.x_stride = x.stride();
  expected.y = y.host(), actual.y = y.device(), expected.y_stride = actual.y_stride = y.stride();
  expected.weight = weight.host(), actual.weight = weight.device();
  if (c.with_states) {
    expected.initial_state = initial.host(), actual.initial_state = initial.device();
    expected.final_state = final.host(), actual.final_state = final.device();
  }
  kernels::cpu::short_convolution_forward(expected);
  kernels::cuda::short_convolution_forward(actual);
  CHECK(y.is_written());
  y.check("y");
  // States are copies of inputs.
  final.check("final state", {0, 0});
}

template <class T>
void check_backward(const ConvolutionCase& c, bool has_dy) {
  const Indices indices(c);
  const Layout dense = c.layout == Layout::kOdd ? Layout::kOdd : Layout::kDense;
  const int64_t tokens = c.offsets.back(), state = c.slots * (c.width - 1) * c.channels;
  Matrix<T> x(tokens, c.channels, c.layout, 1);
  Matrix<kernels::accumulate_t<T>> weight(1, c.channels * c.width, dense, 2);
  Matrix<T> dy(tokens, c.channels, c.layout, 3), dx(tokens, c.channels, c.layout, 4, c.accumulate ? 1 : 0);
  Matrix<T> du(1, tokens * c.channels, dense, 0, 0), initial(1, state, dense, 5), d_final(1, state, dense, 6);
  Matrix<T> d_initial(1, state, dense, 0, 0);
  Matrix<float> dweight(1, c.channels * c.width, Layout::kDense, 7);
  const std::vector<double> start(dweight.host(), dweight.host() + c.channels * c.width);
  ShortConvolutionBackward<double> expected;
  ShortConvolutionBackward<T> actual;
  fill(expected, c, c.offsets.data(), c.state_in.data(), c.state_out.data());
  fill(actual, c, indices.offsets.data(), indices.in.data(), indices.out.data());
  expected.x = x.host(), actual.x = x.device(), expected.x_stride = actual.x_stride = x.stride();
  expected.weight = weight.host(), actual.weight = weight.device();
  if (has_dy) {
    expected.dy = dy.host(), actual.dy = dy.device(), expected.dy_stride = actual.dy_stride = dy.stride();
    expected.du = du.host(), actual.du = du.device();
  }
  expected.dx = dx.host(), actual.dx = dx.device(), expected.dx_stride = actual.dx_stride = dx.stride();
  expected.accumulate_dx = actual.accumulate_dx = c.accumulate;
  expected.dweight = dweight.host(), actual.dweight = dweight.device();
  if (c.with_states) {
    expected.initial_state = initial.host(), actual.initial_state = initial.device();
    expected.d_final_state = d_final.host(), actual.d_final_state = d_final.device();
    expected.d_initial_state = d_initial.host(), actual.d_initial_state = d_initial.device();
  }
  const DeviceArray<char> workspace(
      static_cast<size_t>(kernels::cuda::short_convolution_backward_workspace(actual)));
  actual.workspace = workspace.data();
  kernels::cpu::short_convolution_backward(expected);
  kernels::cuda::short_convolution_backward(actual);
  // dx is a sum of du, which lies in memory rounded; so is dweight where channels do not pack or filters are
  // wide.
  constexpr bool kRounds = std::is_same_v<T, bfloat16>;
  const Bound sum_of_rounded = kRounds ? Bound{3.4e-3, 4e-2} : bound_of<float>();
  const bool windowed = c.width <= 8 && c.layout != Layout::kOdd;
  dx.check("dx", sum_of_rounded);
  dweight.check("dweight", windowed ? bound_of<float>() : sum_of_rounded);
  d_initial.check("d_initial_state", sum_of_rounded);
  if (!has_dy || c.accumulate) return;
  check_repeats<float>(start, [&](float* out) {
    actual.dweight = out;
    kernels::cuda::short_convolution_backward(actual);
  });
}

}  // namespace

TEST_CASE("short_convolution") {
  const std::vector<std::vector<int64_t>> splits = {
      {0, 1}, {0, 200}, {0, 1, 3, 3, 6, 70, 71, 139, 300}, {0, 33, 64, 65, 97}};
  for (const auto& offsets : splits) {
    const auto sequences = static_cast<int64_t>(offsets.size()) - 1;
    ConvolutionCase c;
    c.offsets = offsets, c.slots = sequences + 2;
    for (int64_t s = 0; s < sequences; ++s) {
      c.state_in.push_back(s % 3 == 2 ? -1 : sequences - s);
      c.state_out.push_back(s % 4 == 3 ? -1 : s + 1);
    }
    for (const int64_t width : {1, 2, 3, 4, 5, 8, 11}) {
      for (const Layout layout : {Layout::kDense, Layout::kStrided, Layout::kOdd}) {
        for (const bool plain : {false, true}) {
          c.width = width, c.layout = layout, c.channels = plain ? 24 : 328;
          c.silu = !plain, c.with_states = !plain || width == 4, c.accumulate = plain;
          INFO("width " << width << " " << name_of(layout) << " silu " << c.silu << " states "
                        << c.with_states << " tokens " << offsets.back() << " sequences " << sequences);
          check_forward<float>(c);
          check_forward<bfloat16>(c);
          check_backward<float>(c, true);
          check_backward<bfloat16>(c, true);
          if (c.with_states) check_backward<bfloat16>(c, false);
        }
      }
    }
  }
}
