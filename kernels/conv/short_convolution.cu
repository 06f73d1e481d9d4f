#include "kernels/common/math.cuh"
#include "kernels/common/state_slots.cuh"
#include "kernels/conv/short_convolution.cuh"

namespace sluice::kernels {
namespace {

constexpr int RUN_TOKENS = 32;
constexpr int STATE_THREADS = 256;

template <class T, int N>
__device__ __forceinline__ void store_output(const ShortConvolutionForward<T>& p, int64_t t, int64_t channel,
                                             const float (&u)[N]) {
  float y[N];
#pragma unroll
  for (int i = 0; i < N; ++i) y[i] = p.silu ? u[i] * sigmoid<T>(u[i]) : u[i];
  Pack<T, N>::of(y).store(p.y + t * p.y_stride + channel);
}

// Filters of any width, every tap read from memory.
template <class T>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    forward_any(const __grid_constant__ ShortConvolutionForward<T> p) {
  const ConvolutionShare share(p, 1, RUN_TOKENS);
  if (share.empty(p)) return;
  SequenceWalk walk(p.offsets, p.sequences, share.first);
  for (int64_t t = share.first; t < share.last; ++t) {
    walk.advance_to(p.offsets, t);
    float u[1];
    convolve(p, walk.s, t, share.channel, u);
    store_output(p, t, share.channel, u);
  }
}

// W <= MOST_WIDTH. window[i] is token t0 - (MOST_WIDTH - 1) + i: the tokens before a step of CONV_STEP
// tokens, then the step itself. Steps at the ends of a sequence or run take the way through memory.
template <class T, int N, int MOST_WIDTH, bool EXACT>
__global__ void __launch_bounds__(CONV_LANES* CONV_RUNS)
    forward_windowed(const __grid_constant__ ShortConvolutionForward<T> p) {
  constexpr int BEFORE = MOST_WIDTH - 1;
  const ConvolutionShare share(p, N, RUN_TOKENS);
  if (share.empty(p)) return;
  const T* x = p.x + share.channel;
  const Taps<N, MOST_WIDTH, EXACT> taps(p.weight, share.channel, static_cast<int>(p.width));
  SequenceWalk walk(p.offsets, p.sequences, share.first);
  Pack<T, N> window[BEFORE + CONV_STEP], next[CONV_STEP];
#pragma unroll
  for (int i = 0; i < BEFORE; ++i) {
    const int64_t t = share.first - BEFORE + i;
    window[i] = t >= 0 ? Pack<T, N>::load(x + t * p.x_stride) : zeros<T, N>();
  }
  load_step(next, x, p.x_stride, share.first, share.last);
  for (int64_t t0 = share.first; t0 < share.last; t0 += CONV_STEP) {
#pragma unroll
    for (int b = 0; b < CONV_STEP; ++b) window[BEFORE + b] = next[b];
    load_step(next, x, p.x_stride, t0 + CONV_STEP, share.last);
    walk.advance_to(p.offsets, t0);
    const int64_t end = walk.end < share.last ? walk.end : share.last;
    if (t0 - p.width + 1 >= walk.begin && t0 + CONV_STEP <= end) {
#pragma unroll
      for (int b = 0; b < CONV_STEP; ++b) {
        float u[N];
        taps.convolve(&window[b], u);
        store_output(p, t0 + b, share.channel, u);
      }
    } else {
#pragma unroll 1
      for (int64_t t = t0; t < t0 + CONV_STEP && t < share.last; ++t) {
        walk.advance_to(p.offsets, t);
        float u[N];
        convolve(p, walk.s, t, share.channel, u);
        store_output(p, t, share.channel, u);
      }
    }
#pragma unroll
    for (int i = 0; i < BEFORE; ++i) window[i] = window[i + CONV_STEP];
  }
}

// The last W - 1 inputs of each sequence, to its slot.
template <class T>
__global__ void __launch_bounds__(STATE_THREADS)
    write_states(const __grid_constant__ ShortConvolutionForward<T> p) {
  const int64_t rows = p.width - 1, index = static_cast<int64_t>(blockIdx.x) * STATE_THREADS + threadIdx.x;
  const int64_t channel = index % p.channels, row = index / p.channels % rows, s = index / p.channels / rows;
  if (s >= p.sequences || p.state_out[s] < 0) return;
  const T* from = input_row(p, s, p.offsets[s + 1] - rows + row);
  p.final_state[(p.state_out[s] * rows + row) * p.channels + channel] = from != nullptr ? from[channel] : T{};
}

template <class T>
void launch_output(const ShortConvolutionForward<T>& p) {
  constexpr int N = CONV_PACK;
  const int64_t runs = (p.tokens + RUN_TOKENS - 1) / RUN_TOKENS;
  const dim3 block(CONV_LANES, CONV_RUNS);
  const bool packable = can_pack<N>(p.x, p.x_stride, p.channels) &&
                        can_pack<N>(p.y, p.y_stride, p.channels) &&
                        can_pack<N>(p.initial_state, p.channels, p.channels);
  if (!packable || p.width > kWidestWindow) {
    forward_any<T><<<convolution_grid(p.channels, 1, runs), block, 0, p.stream>>>(p);
  } else if (p.width == kUsualWidth) {
    forward_windowed<T, N, kUsualWidth, true>
        <<<convolution_grid(p.channels, N, runs), block, 0, p.stream>>>(p);
  } else {
    forward_windowed<T, N, kWidestWindow, false>
        <<<convolution_grid(p.channels, N, runs), block, 0, p.stream>>>(p);
  }
  SLUICE_CHECK_LAUNCH("short_convolution_forward");
}

}  // namespace

namespace cuda {

template <class T>
void short_convolution_forward(const ShortConvolutionForward<T>& p) {
  if (p.channels <= 0) return;
  if (p.tokens > 0) launch_output(p);
  const int64_t state_elements = (p.width - 1) * p.channels;
  if (p.final_state == nullptr || state_elements == 0) return;
  zero_unnamed_slots(p.final_state, p.slots, state_elements, p.state_out, p.sequences, p.stream);
  if (p.sequences <= 0) return;
  const int64_t blocks = (p.sequences * state_elements + STATE_THREADS - 1) / STATE_THREADS;
  write_states<T><<<static_cast<unsigned>(blocks), STATE_THREADS, 0, p.stream>>>(p);
  SLUICE_CHECK_LAUNCH("short_convolution's final states");
}

template void short_convolution_forward(const ShortConvolutionForward<float>&);
template void short_convolution_forward(const ShortConvolutionForward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
