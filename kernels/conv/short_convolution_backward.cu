#include <algorithm>

#include "kernels/common/math.cuh"
#include "kernels/common/partial_sums.h"
#include "kernels/common/state_slots.cuh"
#include "kernels/conv/short_convolution.cuh"

namespace sluice::kernels {
namespace {

constexpr int STATE_THREADS = 256;
constexpr int64_t FEWEST_TOKENS = 32;      // of a run
constexpr int64_t WANTED_THREADS = 84480;  // 640 on each of 132 multiprocessors

// Runs of tokens, a thread and a pack of channels each. A function of the sizes alone, so that the order in
// which the weight's gradient is summed is: within runs, over the CONV_RUNS runs of a block, over the blocks.
struct Runs {
  bool windowed = false;
  int64_t tokens = 0, blocks = 0;
  int64_t count() const { return blocks * CONV_RUNS; }
};

template <class T>
Runs runs_of(const ShortConvolutionBackward<T>& p) {
  constexpr int N = CONV_PACK;
  Runs runs;
  runs.windowed = p.width <= kWidestWindow && can_pack<N>(p.x, p.x_stride, p.channels) &&
                  can_pack<N>(p.dy, p.dy_stride, p.channels) && can_pack<N>(p.du, p.channels, p.channels) &&
                  can_pack<N>(p.dx, p.dx_stride, p.channels) &&
                  can_pack<N>(p.initial_state, p.channels, p.channels) &&
                  can_pack<N>(p.d_final_state, p.channels, p.channels);
  const int64_t packs = runs.windowed ? p.channels / N : p.channels;
  const int64_t wanted = std::max<int64_t>(1, WANTED_THREADS / std::max<int64_t>(1, packs));
  const int64_t tokens = std::max(FEWEST_TOKENS, (p.tokens + wanted - 1) / wanted);
  runs.tokens = (tokens + CONV_STEP - 1) / CONV_STEP * CONV_STEP;
  const int64_t count = (p.tokens + runs.tokens - 1) / runs.tokens;
  runs.blocks = (count + CONV_RUNS - 1) / CONV_RUNS;
  return runs;
}

// du = dy * SiLU'(u), written to memory and left in `du`.
template <class T, int N>
__device__ __forceinline__ void output_gradient(const ShortConvolutionBackward<T>& p, int64_t t,
                                                int64_t channel, const Pack<T, N>& dy, const float (&u)[N],
                                                float (&du)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    du[i] = dy[i];
    if (p.silu) {
      const float s = sigmoid<T>(u[i]);
      du[i] *= s * (1.0f + u[i] * (1.0f - s));
    }
  }
  Pack<T, N>::of(du).store(p.du + t * p.channels + channel);
}

template <class T, int N>
__device__ __forceinline__ void add_product(const float (&du)[N], const Pack<T, N>& x, float (&sum)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] = fmaf(du[i], x[i], sum[i]);
}

template <class T>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    output_any(const __grid_constant__ ShortConvolutionBackward<T> p, int64_t run_tokens) {
  const ConvolutionShare share(p, 1, run_tokens);
  if (share.empty(p)) return;
  SequenceWalk walk(p.offsets, p.sequences, share.first);
  for (int64_t t = share.first; t < share.last; ++t) {
    walk.advance_to(p.offsets, t);
    float u[1], du[1];
    convolve(p, walk.s, t, share.channel, u);
    output_gradient(p, t, share.channel, Pack<T, 1>::load(p.dy + t * p.dy_stride + share.channel), u, du);
  }
}

// partial [blocks of runs, C, W]: the weight's gradient from du in memory, for filters of any width.
template <class T>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    weight_any(const __grid_constant__ ShortConvolutionBackward<T> p, int64_t block_tokens, float* partial) {
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * CONV_LANES + threadIdx.x;
  const int64_t first = blockIdx.y * block_tokens;
  const int64_t last = first + block_tokens < p.tokens ? first + block_tokens : p.tokens;
  if (channel >= p.channels) return;
  for (int64_t j = threadIdx.y; j < p.width; j += CONV_RUNS) {
    float sum = 0;
    SequenceWalk walk(p.offsets, p.sequences, first);
    for (int64_t t = first; t < last; ++t) {
      walk.advance_to(p.offsets, t);
      const T* row = input_row(p, walk.s, t - p.width + 1 + j);
      if (row != nullptr) sum += as_float(p.du[t * p.channels + channel]) * as_float(row[channel]);
    }
    partial[(blockIdx.y * p.channels + channel) * p.width + j] = sum;
  }
}

// As in the forward pass: window[i] is token t0 - (MOST_WIDTH - 1) + i. partial [blocks of runs, C, W], or
// null.
template <class T, int N, int MOST_WIDTH, bool EXACT>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    output_windowed(const __grid_constant__ ShortConvolutionBackward<T> p, int64_t run_tokens,
                    float* partial) {
  constexpr int BEFORE = MOST_WIDTH - 1;
  __shared__ float shared[CONV_RUNS][MOST_WIDTH * N][CONV_LANES];
  const ConvolutionShare share(p, N, run_tokens);
  const int width = static_cast<int>(p.width);
  float sums[MOST_WIDTH][N] = {};
  if (!share.empty(p)) {
    const T* x = p.x + share.channel;
    const T* dy_rows = p.dy + share.channel;
    const Taps<N, MOST_WIDTH, EXACT> taps(p.weight, share.channel, width);
    SequenceWalk walk(p.offsets, p.sequences, share.first);
    Pack<T, N> window[BEFORE + CONV_STEP], next[CONV_STEP], next_dy[CONV_STEP];
#pragma unroll
    for (int i = 0; i < BEFORE; ++i) {
      const int64_t t = share.first - BEFORE + i;
      window[i] = t >= 0 ? Pack<T, N>::load(x + t * p.x_stride) : zeros<T, N>();
    }
    load_step(next, x, p.x_stride, share.first, share.last);
    load_step(next_dy, dy_rows, p.dy_stride, share.first, share.last);
    for (int64_t t0 = share.first; t0 < share.last; t0 += CONV_STEP) {
      Pack<T, N> dy[CONV_STEP];
#pragma unroll
      for (int b = 0; b < CONV_STEP; ++b) window[BEFORE + b] = next[b], dy[b] = next_dy[b];
      load_step(next, x, p.x_stride, t0 + CONV_STEP, share.last);
      load_step(next_dy, dy_rows, p.dy_stride, t0 + CONV_STEP, share.last);
      walk.advance_to(p.offsets, t0);
      const int64_t end = walk.end < share.last ? walk.end : share.last;
      if (t0 - width + 1 >= walk.begin && t0 + CONV_STEP <= end) {
#pragma unroll
        for (int b = 0; b < CONV_STEP; ++b) {
          float u[N], du[N];
          taps.convolve(&window[b], u);
          output_gradient(p, t0 + b, share.channel, dy[b], u, du);
#pragma unroll
          for (int j = 0; j < MOST_WIDTH; ++j) {
            if (taps.used(j)) add_product(du, window[b + j], sums[j]);
          }
        }
      } else {
#pragma unroll 1
        for (int64_t t = t0; t < t0 + CONV_STEP && t < share.last; ++t) {
          walk.advance_to(p.offsets, t);
          float u[N], du[N];
          convolve(p, walk.s, t, share.channel, u);
          output_gradient(p, t, share.channel, Pack<T, N>::load(dy_rows + t * p.dy_stride), u, du);
#pragma unroll
          for (int j = 0; j < MOST_WIDTH; ++j) {
            if (!taps.used(j)) continue;
            const T* row = input_row(p, walk.s, t - BEFORE + j);
            if (row != nullptr) add_product(du, Pack<T, N>::load(row + share.channel), sums[j]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < BEFORE; ++i) window[i] = window[i + CONV_STEP];
    }
  }
  if (partial == nullptr) return;
#pragma unroll
  for (int j = 0; j < MOST_WIDTH; ++j) {
#pragma unroll
    for (int i = 0; i < N; ++i) shared[threadIdx.y][j * N + i][threadIdx.x] = sums[j][i];
  }
  __syncthreads();
  if (share.channel >= p.channels) return;
  for (int at = threadIdx.y; at < MOST_WIDTH * N; at += CONV_RUNS) {
    const int j = at / N - (MOST_WIDTH - width), i = at % N;
    if (j < 0) continue;
    float total = 0;
    for (int run = 0; run < CONV_RUNS; ++run) total += shared[run][at][threadIdx.x];
    partial[(blockIdx.y * p.channels + share.channel + i) * width + j] = total;
  }
}

// The gradient of the input at `position` of sequence s: from the tokens whose window holds it, and from the
// final state.
template <int N, class T>
__device__ __forceinline__ void input_gradient(const ShortConvolutionBackward<T>& p, int64_t s,
                                               int64_t position, int64_t channel, float (&gradient)[N]) {
  const int64_t begin = p.offsets[s], end = p.offsets[s + 1];
#pragma unroll
  for (int i = 0; i < N; ++i) gradient[i] = 0;
  if (p.dy != nullptr) {
    const int64_t last = end < position + p.width ? end : position + p.width;
    for (int64_t t = begin > position ? begin : position; t < last; ++t) {
      const int64_t j = position - t + p.width - 1;
      const auto du = Pack<T, N>::load(p.du + t * p.channels + channel);
#pragma unroll
      for (int i = 0; i < N; ++i) gradient[i] += as_float(p.weight[(channel + i) * p.width + j]) * du[i];
    }
  }
  const int64_t row = position - end + p.width - 1;
  if (p.d_final_state == nullptr || p.state_out[s] < 0 || row < 0) return;
  const T* from = p.d_final_state + (p.state_out[s] * (p.width - 1) + row) * p.channels + channel;
  const auto state = Pack<T, N>::load(from);
#pragma unroll
  for (int i = 0; i < N; ++i) gradient[i] += state[i];
}

template <class T, int N>
__device__ __forceinline__ void store_input_gradient(const ShortConvolutionBackward<T>& p, int64_t t,
                                                     int64_t channel, const float (&gradient)[N]) {
  T* to = p.dx + t * p.dx_stride + channel;
  const auto old = p.accumulate_dx ? Pack<T, N>::load(to) : zeros<T, N>();
  float dx[N];
#pragma unroll
  for (int i = 0; i < N; ++i) dx[i] = old[i] + gradient[i];
  Pack<T, N>::of(dx).store(to);
}

template <class T>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    input_any(const __grid_constant__ ShortConvolutionBackward<T> p, int64_t run_tokens) {
  const ConvolutionShare share(p, 1, run_tokens);
  if (share.empty(p)) return;
  SequenceWalk walk(p.offsets, p.sequences, share.first);
  for (int64_t t = share.first; t < share.last; ++t) {
    walk.advance_to(p.offsets, t);
    float gradient[1];
    input_gradient(p, walk.s, t, share.channel, gradient);
    store_input_gradient(p, t, share.channel, gradient);
  }
}

// window[i] is du of token t0 + i: a step of CONV_STEP tokens and those after it.
template <class T, int N, int MOST_WIDTH, bool EXACT>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    input_windowed(const __grid_constant__ ShortConvolutionBackward<T> p, int64_t run_tokens) {
  constexpr int AFTER = MOST_WIDTH - 1;
  const ConvolutionShare share(p, N, run_tokens);
  if (share.empty(p)) return;
  const T* du = p.du + share.channel;
  const Taps<N, MOST_WIDTH, EXACT> taps(p.weight, share.channel, static_cast<int>(p.width));
  SequenceWalk walk(p.offsets, p.sequences, share.first);
  Pack<T, N> window[AFTER + CONV_STEP], next[CONV_STEP];
#pragma unroll
  for (int i = 0; i < AFTER; ++i) {
    if (share.first + i < p.tokens) window[i] = Pack<T, N>::load(du + (share.first + i) * p.channels);
  }
  load_step(next, du, p.channels, share.first + AFTER, p.tokens);
  for (int64_t t0 = share.first; t0 < share.last; t0 += CONV_STEP) {
#pragma unroll
    for (int b = 0; b < CONV_STEP; ++b) window[AFTER + b] = next[b];
    load_step(next, du, p.channels, t0 + CONV_STEP + AFTER, p.tokens);
    walk.advance_to(p.offsets, t0);
    if (t0 + CONV_STEP <= share.last && t0 + CONV_STEP + p.width - 1 <= walk.end) {
#pragma unroll
      for (int b = 0; b < CONV_STEP; ++b) {
        float gradient[N] = {};
#pragma unroll
        for (int j = 0; j < MOST_WIDTH; ++j) {
          if (taps.used(j)) add_product(taps.tap[j], window[b + AFTER - j], gradient);
        }
        store_input_gradient(p, t0 + b, share.channel, gradient);
      }
    } else {
#pragma unroll 1
      for (int64_t t = t0; t < t0 + CONV_STEP && t < share.last; ++t) {
        walk.advance_to(p.offsets, t);
        float gradient[N];
        input_gradient(p, walk.s, t, share.channel, gradient);
        store_input_gradient(p, t, share.channel, gradient);
      }
    }
#pragma unroll
    for (int i = 0; i < AFTER; ++i) window[i] = window[i + CONV_STEP];
  }
}

// The gradients of the slots that sequences begin from; one sequence a slot.
template <class T>
__global__ void __launch_bounds__(STATE_THREADS)
    initial_states(const __grid_constant__ ShortConvolutionBackward<T> p) {
  const int64_t rows = p.width - 1, index = static_cast<int64_t>(blockIdx.x) * STATE_THREADS + threadIdx.x;
  const int64_t channel = index % p.channels, row = index / p.channels % rows, s = index / p.channels / rows;
  if (s >= p.sequences || p.state_in[s] < 0) return;
  float gradient[1];
  input_gradient(p, s, p.offsets[s] - rows + row, channel, gradient);
  p.d_initial_state[(p.state_in[s] * rows + row) * p.channels + channel] = from_float<T>(gradient[0]);
}

template <class T>
void launch_output_gradient(const ShortConvolutionBackward<T>& p, const Runs& runs) {
  constexpr int N = CONV_PACK;
  const dim3 block(CONV_LANES, CONV_RUNS);
  const dim3 grid = convolution_grid(p.channels, runs.windowed ? N : 1, runs.count());
  float* partial = p.dweight != nullptr ? static_cast<float*>(p.workspace) : nullptr;
  if (!runs.windowed) {
    output_any<T><<<grid, block, 0, p.stream>>>(p, runs.tokens);
    SLUICE_CHECK_LAUNCH("short_convolution_backward");
    if (partial != nullptr) weight_any<T><<<grid, block, 0, p.stream>>>(p, runs.tokens * CONV_RUNS, partial);
  } else if (p.width == kUsualWidth) {
    output_windowed<T, N, kUsualWidth, true><<<grid, block, 0, p.stream>>>(p, runs.tokens, partial);
  } else {
    output_windowed<T, N, kWidestWindow, false><<<grid, block, 0, p.stream>>>(p, runs.tokens, partial);
  }
  SLUICE_CHECK_LAUNCH("short_convolution_backward");
  if (partial == nullptr) return;
  cuda::add_partial_sums(partial, runs.blocks, p.channels * p.width, p.dweight, true, p.stream);
}

template <class T>
void launch_input_gradient(const ShortConvolutionBackward<T>& p, const Runs& runs) {
  constexpr int N = CONV_PACK;
  const dim3 block(CONV_LANES, CONV_RUNS);
  const bool windowed = runs.windowed && p.dy != nullptr;
  const dim3 grid = convolution_grid(p.channels, windowed ? N : 1, runs.count());
  if (!windowed) {
    input_any<T><<<grid, block, 0, p.stream>>>(p, runs.tokens);
  } else if (p.width == kUsualWidth) {
    input_windowed<T, N, kUsualWidth, true><<<grid, block, 0, p.stream>>>(p, runs.tokens);
  } else {
    input_windowed<T, N, kWidestWindow, false><<<grid, block, 0, p.stream>>>(p, runs.tokens);
  }
  SLUICE_CHECK_LAUNCH("short_convolution_backward's input gradient");
}

}  // namespace

namespace cuda {

template <class T>
int64_t short_convolution_backward_workspace(const ShortConvolutionBackward<T>& p) {
  if (p.dweight == nullptr || p.dy == nullptr) return 0;
  return runs_of(p).blocks * p.channels * p.width * static_cast<int64_t>(sizeof(float));
}

template <class T>
void short_convolution_backward(const ShortConvolutionBackward<T>& p) {
  if (p.channels <= 0) return;
  if (p.tokens > 0) {
    const Runs runs = runs_of(p);
    if (p.dy != nullptr) launch_output_gradient(p, runs);
    if (p.dx != nullptr) launch_input_gradient(p, runs);
  }
  const int64_t state_elements = (p.width - 1) * p.channels;
  if (p.d_initial_state == nullptr || state_elements == 0) return;
  zero_unnamed_slots(p.d_initial_state, p.slots, state_elements, p.state_in, p.sequences, p.stream);
  if (p.sequences <= 0) return;
  const int64_t blocks = (p.sequences * state_elements + STATE_THREADS - 1) / STATE_THREADS;
  initial_states<T><<<static_cast<unsigned>(blocks), STATE_THREADS, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("short_convolution_backward's initial states");
}

template void short_convolution_backward(const ShortConvolutionBackward<float>&);
template void short_convolution_backward(const ShortConvolutionBackward<bfloat16>&);
template int64_t short_convolution_backward_workspace(const ShortConvolutionBackward<float>&);
template int64_t short_convolution_backward_workspace(const ShortConvolutionBackward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
