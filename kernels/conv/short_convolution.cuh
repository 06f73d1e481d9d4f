// What both passes of the short convolution share in device code. N: channels of a thread's pack.
#pragma once

#include "core/cuda_check.h"
#include "kernels/common/device_types.cuh"
#include "kernels/conv/short_convolution.h"

namespace sluice::kernels {

inline constexpr int CONV_LANES = 32;  // packs of channels of a block
inline constexpr int CONV_RUNS = 4;    // runs of tokens of a block
inline constexpr int CONV_STEP = 4;    // tokens whose loads are on their way together
// Channels of a thread. Not 16 bytes of bfloat16: weights and windows of 8 channels leave room for few
// threads.
inline constexpr int CONV_PACK = 4;

// The sequence of token t: the last one that begins at or before it.
__device__ __forceinline__ int64_t sequence_of(const int64_t* offsets, int64_t sequences, int64_t t) {
  int64_t low = 0, high = sequences;  // offsets[low] <= t
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (offsets[middle] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// A walk over tokens in order: the sequence the current token belongs to.
struct SequenceWalk {
  int64_t s, begin, end;

  __device__ SequenceWalk(const int64_t* offsets, int64_t sequences, int64_t t)
      : s(sequence_of(offsets, sequences, t)), begin(offsets[s]), end(offsets[s + 1]) {}
  __device__ __forceinline__ void advance_to(const int64_t* offsets, int64_t t) {
    while (t >= end) begin = end, end = offsets[++s + 1];
  }
};

// A thread's run of tokens and its channels.
struct ConvolutionShare {
  int64_t channel, first, last;

  template <class Params>
  __device__ ConvolutionShare(const Params& p, int pack, int64_t run_tokens) {
    channel = (static_cast<int64_t>(blockIdx.x) * CONV_LANES + threadIdx.x) * pack;
    first = (static_cast<int64_t>(blockIdx.y) * CONV_RUNS + threadIdx.y) * run_tokens;
    last = first + run_tokens < p.tokens ? first + run_tokens : p.tokens;
  }
  template <class Params>
  __device__ bool empty(const Params& p) const {
    return channel >= p.channels || first >= last;
  }
};

template <class T, int N>
__device__ __forceinline__ Pack<T, N> zeros() {
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.set(i, 0.0f);
  return pack;
}

// The rows of tokens t ... t + CONV_STEP - 1 below `last`, on their way while the step before is computed.
template <class T, int N>
__device__ __forceinline__ void load_step(Pack<T, N> (&rows)[CONV_STEP], const T* from, int64_t stride,
                                          int64_t t, int64_t last) {
#pragma unroll
  for (int b = 0; b < CONV_STEP; ++b) {
    if (t + b < last) rows[b] = Pack<T, N>::load(from + (t + b) * stride);
  }
}

// The input at `position` of sequence s, which may lie up to W - 1 before its first token; null is a zero
// row.
template <class T, template <class> class Params>
__device__ __forceinline__ const T* input_row(const Params<T>& p, int64_t s, int64_t position) {
  const int64_t before = p.offsets[s] - position;
  if (before <= 0) return p.x + position * p.x_stride;
  if (p.initial_state == nullptr || p.state_in[s] < 0) return nullptr;
  return p.initial_state + ((p.state_in[s] + 1) * (p.width - 1) - before) * p.channels;
}

// u of token t, read from memory tap by tap.
template <int N, class T, template <class> class Params>
__device__ __forceinline__ void convolve(const Params<T>& p, int64_t s, int64_t t, int64_t channel,
                                         float (&u)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) u[i] = 0;
  for (int64_t j = 0; j < p.width; ++j) {
    const T* row = input_row(p, s, t - p.width + 1 + j);
    if (row == nullptr) continue;
    const auto x = Pack<T, N>::load(row + channel);
#pragma unroll
    for (int i = 0; i < N; ++i) u[i] += as_float(p.weight[(channel + i) * p.width + j]) * x[i];
  }
}

// The weights of a thread's channels: tap j meets the input MOST_WIDTH - 1 - j tokens back. In narrower
// filters the first taps go unused: a weight of zero may not meet infinity. EXACT: there are none of these.
template <int N, int MOST_WIDTH, bool EXACT>
struct Taps {
  float tap[MOST_WIDTH][N];
  int unused;

  template <class T>
  __device__ __forceinline__ Taps(const T* weight, int64_t channel, int width) : unused(MOST_WIDTH - width) {
#pragma unroll
    for (int j = 0; j < MOST_WIDTH; ++j) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        tap[j][i] = used(j) ? as_float(weight[(channel + i) * width + j - unused]) : 0.0f;
      }
    }
  }
  __device__ __forceinline__ bool used(int j) const { return EXACT || j >= unused; }
  // u of the token whose window of MOST_WIDTH inputs begins here.
  template <class T>
  __device__ __forceinline__ void convolve(const Pack<T, N>* window, float (&u)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) u[i] = 0;
#pragma unroll
    for (int j = 0; j < MOST_WIDTH; ++j) {
      if (!used(j)) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) u[i] = fmaf(tap[j][i], window[j][i], u[i]);
    }
  }
};

// Filters of 4 taps, the usual ones, and any others up to 8 keep weights and a window of tokens in registers,
// where channels pack.
inline constexpr int kUsualWidth = 4;
inline constexpr int kWidestWindow = 8;

// The grid for `runs` runs of all channels.
inline dim3 convolution_grid(int64_t channels, int pack, int64_t runs) {
  const int64_t packs = (channels + pack - 1) / pack;
  return dim3(static_cast<unsigned>((packs + CONV_LANES - 1) / CONV_LANES),
              static_cast<unsigned>((runs + CONV_RUNS - 1) / CONV_RUNS));
}

}  // namespace sluice::kernels
