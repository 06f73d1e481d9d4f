// Depthwise causal convolution over packed sequences, with an optional SiLU (Mamba's short convolution):
//   u_t[c] = sum_{j < W} weight[c, j] x_{t-W+1+j}[c],   y = SiLU(u) or u.
// Inputs before a sequence's first token come from its state: the last W - 1 inputs in order of time, so that
// row W - 2 is the newest. Sums accumulate in T on the CPU, in float on CUDA.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct ShortConvolutionForward {
  int64_t tokens = 0, sequences = 0;  // N, S
  int64_t channels = 0, width = 0;    // C, W >= 1
  bool silu = true;
  const T* x = nullptr;  // [N, C], row stride x_stride
  int64_t x_stride = 0;
  const accumulate_t<T>* weight = nullptr;  // [C, W]
  T* y = nullptr;                           // [N, C], row stride y_stride
  int64_t y_stride = 0;
  const int64_t* offsets = nullptr;    // [S + 1]: sequence s is tokens [offsets[s], offsets[s + 1])
  const int64_t* state_in = nullptr;   // [S]: slot of the inputs before the sequence, -1: zeros
  const int64_t* state_out = nullptr;  // [S]: slot its last inputs go to, -1: nowhere; each at most once
  int64_t slots = 0;
  const T* initial_state = nullptr;  // [slots, W - 1, C], or null: all zero
  T* final_state = nullptr;          // [slots, W - 1, C], or null; slots that no sequence leaves become zero
  Stream stream = nullptr;
};

// With du = dy * SiLU'(u), u computed again:
//   dx_t[c] = sum_j weight[c, j] du_{t+W-1-j}[c] (+ the final state's gradient),
//   dweight[c, j] += sum_t du_t[c] x_{t-W+1+j}[c].
template <class T>
struct ShortConvolutionBackward {
  int64_t tokens = 0, sequences = 0;
  int64_t channels = 0, width = 0;
  bool silu = true;
  const T* x = nullptr;  // [N, C], row stride x_stride
  int64_t x_stride = 0;
  const accumulate_t<T>* weight = nullptr;  // [C, W]
  const T* dy = nullptr;                    // [N, C], row stride dy_stride; null: no gradient through y
  int64_t dy_stride = 0;
  T* du = nullptr;  // [N, C] dense: workspace; null when dy is
  T* dx = nullptr;  // [N, C], row stride dx_stride; or null
  int64_t dx_stride = 0;
  bool accumulate_dx = false;          // dx += instead of =
  accumulate_t<T>* dweight = nullptr;  // [C, W], always +=; or null
  const int64_t* offsets = nullptr;    // [S + 1]
  const int64_t* state_in = nullptr;   // [S]
  const int64_t* state_out = nullptr;  // [S]
  int64_t slots = 0;
  const T* initial_state = nullptr;  // [slots, W - 1, C], or null
  const T* d_final_state = nullptr;  // [slots, W - 1, C], or null; slots that no sequence leaves are not read
  T* d_initial_state = nullptr;      // [slots, W - 1, C], or null; slots that no sequence reads become zero
  void* workspace = nullptr;         // CUDA: of short_convolution_backward_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void short_convolution_forward(const ShortConvolutionForward<T>& params);
template <class T>
void short_convolution_backward(const ShortConvolutionBackward<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void short_convolution_forward(const ShortConvolutionForward<T>& params);
template <class T>
void short_convolution_backward(const ShortConvolutionBackward<T>& params);
template <class T>
int64_t short_convolution_backward_workspace(const ShortConvolutionBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
