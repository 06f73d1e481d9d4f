// Rows of a table by token: y[n] = weight[tokens[n]], and its gradient.
#pragma once

#include <cstdint>

#include "kernels/common/accumulate.h"
#include "kernels/common/stream.h"

namespace sluice::kernels {

template <class T>
struct EmbeddingForward {
  int64_t rows = 0, columns = 0;
  const int32_t* tokens = nullptr;  // [rows], each a row of weight: checked by the caller
  const T* weight = nullptr;        // [vocabulary, columns], row stride weight_stride
  int64_t weight_stride = 0;
  T* y = nullptr;  // [rows, columns], row stride y_stride
  int64_t y_stride = 0;
  Stream stream = nullptr;
};

// dweight[token] += sum of dy over the token's places, in order of place: `groups` distinct tokens, group g
// at places order[group_begin[g]] ... order[group_begin[g + 1] - 1], ascending. One thread owns a group, so
// the sum's order depends on nothing else.
template <class T>
struct EmbeddingBackward {
  int64_t groups = 0, columns = 0;
  const int32_t* group_token = nullptr;  // [groups], distinct
  const int64_t* group_begin = nullptr;  // [groups + 1]
  const int64_t* order = nullptr;        // [rows]
  const T* dy = nullptr;                 // [rows, columns], row stride dy_stride
  int64_t dy_stride = 0;
  accumulate_t<T>* dweight = nullptr;  // [vocabulary, columns], row stride dweight_stride; always +=
  int64_t dweight_stride = 0;
  Stream stream = nullptr;
};

namespace cpu {
template <class T>
void embedding_forward(const EmbeddingForward<T>& params);
template <class T>
void embedding_backward(const EmbeddingBackward<T>& params);
}  // namespace cpu

}  // namespace sluice::kernels
