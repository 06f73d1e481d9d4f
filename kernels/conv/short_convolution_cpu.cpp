#include "kernels/conv/short_convolution.h"

#include <algorithm>
#include <vector>

#include "core/vector_exp.h"
#include "kernels/common/state_slots_cpu.h"

namespace sluice::kernels::cpu {
namespace {

constexpr int64_t kRowBlock = 64;
// The weight gradient is summed over at most this many blocks of tokens: the order depends on N alone.
constexpr int64_t kMostBlocks = 64;
constexpr int64_t kParallelElements = 16384;

// Calls body(sequence, token) for the tokens [first, last).
template <class Body>
void for_each_token(const int64_t* offsets, int64_t sequences, int64_t first, int64_t last, Body&& body) {
  int64_t s = std::upper_bound(offsets, offsets + sequences + 1, first) - offsets - 1;
  for (int64_t t = first; t < last; ++t) {
    while (t >= offsets[s + 1]) ++s;
    body(s, t);
  }
}

// [W, C], so that the loops over channels run along memory.
template <class T>
std::vector<T> transposed(const T* weight, int64_t channels, int64_t width) {
  std::vector<T> by_tap(static_cast<size_t>(channels * width));
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < width; ++j) by_tap[static_cast<size_t>(j * channels + c)] = weight[c * width + j];
  }
  return by_tap;
}

// The input at `position` of sequence s, which may lie up to W - 1 before its first token; null is a zero
// row.
template <class Params>
auto input_row(const Params& p, int64_t s, int64_t position) {
  const int64_t before = p.offsets[s] - position;
  if (before <= 0) return p.x + position * p.x_stride;
  if (p.initial_state == nullptr || p.state_in[s] < 0) return decltype(p.x)(nullptr);
  return p.initial_state + ((p.state_in[s] + 1) * (p.width - 1) - before) * p.channels;
}

// to += a * b by channel.
template <class T>
void multiply_add(const T* a, const T* b, int64_t channels, T* to) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) to[c] += a[c] * b[c];
}

// u of token t, before the activation.
template <class T, class Params>
void convolve(const Params& p, const T* by_tap, int64_t s, int64_t t, T* u) {
  std::fill_n(u, p.channels, T(0));
  for (int64_t j = 0; j < p.width; ++j) {
    const T* row = input_row(p, s, t - p.width + 1 + j);
    if (row != nullptr) multiply_add(by_tap + j * p.channels, row, p.channels, u);
  }
}

// The gradient of the input at `position` of sequence s, added to `to`: from the tokens whose window holds
// it, and from the final state.
template <class T>
void add_input_gradient(const ShortConvolutionBackward<T>& p, const T* by_tap, int64_t s, int64_t position,
                        T* to) {
  const int64_t end = p.offsets[s + 1];
  if (p.dy != nullptr) {
    const int64_t last = std::min(end, position + p.width);
    for (int64_t t = std::max(p.offsets[s], position); t < last; ++t) {
      multiply_add(by_tap + (position - t + p.width - 1) * p.channels, p.du + t * p.channels, p.channels, to);
    }
  }
  const int64_t row = position - end + p.width - 1;
  if (p.d_final_state == nullptr || p.state_out[s] < 0 || row < 0) return;
  const T* gradient = p.d_final_state + (p.state_out[s] * (p.width - 1) + row) * p.channels;
#pragma omp simd
  for (int64_t c = 0; c < p.channels; ++c) to[c] += gradient[c];
}

// du of every token, and the weight's gradient.
template <class T>
void backward_output(const ShortConvolutionBackward<T>& p, const T* by_tap) {
  const int64_t C = p.channels, W = p.width;
  const int64_t block_rows = std::max(kRowBlock, (p.tokens + kMostBlocks - 1) / kMostBlocks);
  const int64_t blocks = (p.tokens + block_rows - 1) / block_rows;
  std::vector<T> partial(static_cast<size_t>(p.dweight != nullptr ? blocks * W * C : 0), T(0));
#pragma omp parallel for if (p.tokens * C > kParallelElements)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t last = std::min(p.tokens, (block + 1) * block_rows);
    for_each_token(p.offsets, p.sequences, block * block_rows, last, [&](int64_t s, int64_t t) {
      const T* dy = p.dy + t * p.dy_stride;
      T* du = p.du + t * C;
      if (p.silu) {
        convolve(p, by_tap, s, t, du);
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          const T sigmoid = T(1) / (T(1) + vector_exp(-du[c]));
          du[c] = dy[c] * sigmoid * (T(1) + du[c] * (T(1) - sigmoid));
        }
      } else {
        std::copy_n(dy, C, du);
      }
      if (p.dweight == nullptr) return;
      for (int64_t j = 0; j < W; ++j) {
        const T* row = input_row(p, s, t - W + 1 + j);
        if (row != nullptr) multiply_add(du, row, C, partial.data() + (block * W + j) * C);
      }
    });
  }
  if (p.dweight == nullptr) return;
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t j = 0; j < W; ++j) {
      const T* sums = partial.data() + (block * W + j) * C;
      for (int64_t c = 0; c < C; ++c) p.dweight[c * W + j] += sums[c];
    }
  }
}

}  // namespace

template <class T>
void short_convolution_forward(const ShortConvolutionForward<T>& p) {
  const int64_t C = p.channels, W = p.width;
  const std::vector<T> by_tap = transposed(p.weight, C, W);
  const int64_t blocks = (p.tokens + kRowBlock - 1) / kRowBlock;
#pragma omp parallel for if (p.tokens * C > kParallelElements)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t last = std::min(p.tokens, (block + 1) * kRowBlock);
    for_each_token(p.offsets, p.sequences, block * kRowBlock, last, [&](int64_t s, int64_t t) {
      T* y = p.y + t * p.y_stride;
      convolve(p, by_tap.data(), s, t, y);
      if (!p.silu) return;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) y[c] = y[c] / (T(1) + vector_exp(-y[c]));
    });
  }
  if (p.final_state == nullptr) return;
  zero_unnamed_slots(p.final_state, p.slots, (W - 1) * C, p.state_out, p.sequences);
  for (int64_t s = 0; s < p.sequences; ++s) {
    if (p.state_out[s] < 0) continue;
    for (int64_t i = 0; i < W - 1; ++i) {
      const T* row = input_row(p, s, p.offsets[s + 1] - (W - 1) + i);
      T* to = p.final_state + (p.state_out[s] * (W - 1) + i) * C;
      if (row != nullptr) {
        std::copy_n(row, C, to);
      } else {
        std::fill_n(to, C, T(0));
      }
    }
  }
}

template <class T>
void short_convolution_backward(const ShortConvolutionBackward<T>& p) {
  const int64_t C = p.channels, W = p.width;
  const std::vector<T> by_tap = transposed(p.weight, C, W);
  if (p.dy != nullptr) backward_output(p, by_tap.data());
  if (p.dx != nullptr) {
    const int64_t blocks = (p.tokens + kRowBlock - 1) / kRowBlock;
#pragma omp parallel for if (p.tokens * C > kParallelElements)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t last = std::min(p.tokens, (block + 1) * kRowBlock);
      for_each_token(p.offsets, p.sequences, block * kRowBlock, last, [&](int64_t s, int64_t t) {
        T* dx = p.dx + t * p.dx_stride;
        if (!p.accumulate_dx) std::fill_n(dx, C, T(0));
        add_input_gradient(p, by_tap.data(), s, t, dx);
      });
    }
  }
  if (p.d_initial_state == nullptr) return;
  std::fill_n(p.d_initial_state, p.slots * (W - 1) * C, T(0));
  for (int64_t s = 0; s < p.sequences; ++s) {
    if (p.state_in[s] < 0) continue;
    for (int64_t i = 0; i < W - 1; ++i) {
      T* to = p.d_initial_state + (p.state_in[s] * (W - 1) + i) * C;
      add_input_gradient(p, by_tap.data(), s, p.offsets[s] - (W - 1) + i, to);
    }
  }
}

template void short_convolution_forward(const ShortConvolutionForward<float>&);
template void short_convolution_forward(const ShortConvolutionForward<double>&);
template void short_convolution_backward(const ShortConvolutionBackward<float>&);
template void short_convolution_backward(const ShortConvolutionBackward<double>&);

}  // namespace sluice::kernels::cpu
