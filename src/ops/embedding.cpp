#include "ops/embedding.h"

#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/embed/embedding.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

void backward(const Tensor& tokens, const Tensor& dy, const Tensor& dweight) {
  dispatch_floating(dy.dtype(), "embedding", [&]<class T>() {
    kernels::EmbeddingBackward<T> p;
    p.rows = tokens.size(0), p.columns = dy.size(1), p.vocabulary = dweight.size(0);
    p.tokens = tokens.data<int32_t>();
    p.dy = dy.data<T>(), p.dy_stride = dy.row_stride();
    p.dweight = dweight.data<kernels::accumulate_t<T>>(), p.dweight_stride = dweight.row_stride();
    SLUICE_LAUNCH_WITH_SCRATCH(T, dy.device(), embedding_backward, p);
  });
}

}  // namespace

Variable embedding(const Tensor& tokens, const Variable& weight) {
  require_rank("embedding", "tokens", tokens, 1);
  require_dtype("embedding", "tokens", tokens, DType::kI32);
  require_rank("embedding", "weight", weight.value(), 2);
  const int64_t rows = tokens.size(0), vocabulary = weight.size(0), columns = weight.size(1);
  const int32_t* ids = tokens.data<int32_t>();
  // On a GPU nobody waits to look: the kernel marks bad tokens by NaN.
  for (int64_t i = 0; tokens.device() == Device::kCpu && i < rows; ++i) {
    SLUICE_CHECK(ids[i] >= 0 && ids[i] < vocabulary, kData,
                 "[embedding] token {} at position {} is outside the vocabulary of {}", ids[i], i,
                 vocabulary);
  }
  const Tensor y = Tensor::empty(Shape{rows, columns}, weight.dtype(), weight.device());
  dispatch_floating(weight.dtype(), "embedding", [&]<class T>() {
    kernels::EmbeddingForward<T> p;
    p.rows = rows, p.columns = columns, p.vocabulary = vocabulary;
    p.tokens = ids;
    p.weight = weight.value().data<T>(), p.weight_stride = weight.value().row_stride();
    p.y = y.data<T>(), p.y_stride = y.row_stride();
    SLUICE_LAUNCH(T, weight.device(), embedding_forward, p);
  });
  return Tape::record_one("embedding", {weight}, y, [tokens](BackwardContext& context) {
    backward(tokens, context.output_gradient(0), context.sum_target(0));
  });
}

}  // namespace sluice::ops
