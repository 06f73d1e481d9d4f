#include <algorithm>

#include "kernels/embed/embedding.h"

namespace sluice::kernels::cpu {

template <class T>
void embedding_forward(const EmbeddingForward<T>& p) {
#pragma omp parallel for if (p.rows * p.columns > 65536)
  for (int64_t row = 0; row < p.rows; ++row) {
    std::copy_n(p.weight + p.tokens[row] * p.weight_stride, p.columns, p.y + row * p.y_stride);
  }
}

template <class T>
void embedding_backward(const EmbeddingBackward<T>& p) {
  // Groups differ widely in size: frequent tokens are dealt out as threads come free.
#pragma omp parallel for schedule(dynamic, 8) if (p.group_begin[p.groups] * p.columns > 65536)
  for (int64_t group = 0; group < p.groups; ++group) {
    T* sum = p.dweight + p.group_token[group] * p.dweight_stride;
    for (int64_t at = p.group_begin[group]; at < p.group_begin[group + 1]; ++at) {
      const T* dy = p.dy + p.order[at] * p.dy_stride;
#pragma omp simd
      for (int64_t i = 0; i < p.columns; ++i) sum[i] += dy[i];
    }
  }
}

template void embedding_forward(const EmbeddingForward<float>&);
template void embedding_forward(const EmbeddingForward<double>&);
template void embedding_backward(const EmbeddingBackward<float>&);
template void embedding_backward(const EmbeddingBackward<double>&);

}  // namespace sluice::kernels::cpu
