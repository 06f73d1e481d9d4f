// Rows of a table by token: y[n] = weight[tokens[n]], and its gradient. A token outside [0, vocabulary) gives
// a row of NaN and has no gradient. Gradients are summed in T on the CPU, in float on CUDA.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct EmbeddingForward {
  int64_t rows = 0, columns = 0, vocabulary = 0;
  const int32_t* tokens = nullptr;  // [rows]
  const T* weight = nullptr;        // [vocabulary, columns], row stride weight_stride
  int64_t weight_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  Stream stream = nullptr;
};

// dweight[token] += sum of dy over the token's places. The order of the sum depends on the tokens alone.
template <class T>
struct EmbeddingBackward {
  int64_t rows = 0, columns = 0, vocabulary = 0;
  const int32_t* tokens = nullptr;  // [rows]
  const T* dy = nullptr;            // [rows, columns], row stride dy_stride
  int64_t dy_stride = 0;
  accumulate_t<T>* dweight = nullptr;  // [vocabulary, columns], row stride dweight_stride; always +=
  int64_t dweight_stride = 0;
  void* workspace = nullptr;  // CUDA: of embedding_backward_workspace() bytes
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void embedding_forward(const EmbeddingForward<T>& params);
template <class T>
void embedding_backward(const EmbeddingBackward<T>& params);
}  // namespace cpu

namespace cuda {
template <class T>
void embedding_forward(const EmbeddingForward<T>& params);
template <class T>
void embedding_backward(const EmbeddingBackward<T>& params);
template <class T>
int64_t embedding_backward_workspace(const EmbeddingBackward<T>& params);
}  // namespace cuda

}  // namespace sluice::kernels
