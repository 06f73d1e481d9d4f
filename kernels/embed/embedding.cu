#include "kernels/embed/embedding.h"

#include "kernels/common/rows.cuh"

namespace sluice::kernels {
namespace {

template <class T>
struct Lookup {
  EmbeddingForward<T> p;

  template <int N>
  struct Loaded {
    Pack<T, N> row;
  };
  template <int N>
  __device__ Loaded<N> load(int64_t row, int64_t column) const {
    const int32_t token = p.tokens[row];
    if (token >= 0 && token < p.vocabulary)
      return {Pack<T, N>::load(p.weight + token * p.weight_stride + column)};
    Loaded<N> unknown;
#pragma unroll
    for (int i = 0; i < N; ++i) unknown.row.set(i, NAN);
    return unknown;
  }
  template <int N>
  __device__ void store(int64_t row, int64_t column, const Loaded<N>& loaded) const {
    loaded.row.store(p.y + row * p.y_stride + column);
  }
};

}  // namespace

namespace cuda {

template <class T>
void embedding_forward(const EmbeddingForward<T>& p) {
  constexpr int N = PACK<T>;
  const bool packable =
      can_pack<N>(p.weight, p.weight_stride, p.columns) && can_pack<N>(p.y, p.y_stride, p.columns);
  launch_rows<T>(Lookup<T>{p}, p.rows, p.columns, packable, p.stream, "embedding_forward");
}

template void embedding_forward(const EmbeddingForward<float>&);
template void embedding_forward(const EmbeddingForward<bfloat16>&);

}  // namespace cuda
}  // namespace sluice::kernels
