#include "ops/embedding.h"

#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/embed/embedding.h"
#include "ops/check.h"

namespace sluice::ops {
namespace {

// The places of each distinct token, ascending.
struct Groups {
  std::vector<int32_t> token;
  std::vector<int64_t> begin;
  std::vector<int64_t> order;
};

Groups group_by_token(const int32_t* tokens, int64_t count, int64_t vocabulary) {
  // Counting sort: next[t] is where token t's next place goes.
  std::vector<int64_t> next(static_cast<size_t>(vocabulary) + 1, 0);
  for (int64_t i = 0; i < count; ++i) ++next[tokens[i] + 1];
  Groups groups;
  for (int64_t token = 0; token < vocabulary; ++token) {
    if (next[token + 1] > 0) {
      groups.token.push_back(static_cast<int32_t>(token));
      groups.begin.push_back(next[token]);
    }
    next[token + 1] += next[token];
  }
  groups.begin.push_back(count);
  groups.order.resize(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) groups.order[next[tokens[i]]++] = i;
  return groups;
}

void backward(const Groups& groups, const Tensor& dy, const Tensor& dweight) {
  dispatch_compute(dy.dtype(), "embedding", [&]<class T>() {
    kernels::EmbeddingBackward<T> p;
    p.groups = static_cast<int64_t>(groups.token.size()), p.columns = dy.size(1);
    p.group_token = groups.token.data(), p.group_begin = groups.begin.data(), p.order = groups.order.data();
    p.dy = dy.data<T>(), p.dy_stride = dy.row_stride();
    p.dweight = dweight.data<T>(), p.dweight_stride = dweight.row_stride();
    kernels::cpu::embedding_backward(p);
  });
}

}  // namespace

Variable embedding(const Tensor& tokens, const Variable& weight) {
  require_rank("embedding", "tokens", tokens, 1);
  require_dtype("embedding", "tokens", tokens, DType::kI32);
  require_rank("embedding", "weight", weight.value(), 2);
  const int64_t rows = tokens.size(0), vocabulary = weight.size(0), columns = weight.size(1);
  const int32_t* ids = tokens.data<int32_t>();
  for (int64_t i = 0; i < rows; ++i) {
    SLUICE_CHECK(ids[i] >= 0 && ids[i] < vocabulary, kData,
                 "[embedding] token {} at position {} is outside the vocabulary of {}", ids[i], i,
                 vocabulary);
  }
  const Tensor y = Tensor::empty(Shape{rows, columns}, weight.dtype(), weight.device());
  dispatch_compute(weight.dtype(), "embedding", [&]<class T>() {
    kernels::EmbeddingForward<T> p;
    p.rows = rows, p.columns = columns;
    p.tokens = ids;
    p.weight = weight.value().data<T>(), p.weight_stride = weight.value().row_stride();
    p.y = y.data<T>(), p.y_stride = y.row_stride();
    kernels::cpu::embedding_forward(p);
  });
  return Tape::record_one("embedding", {weight}, y, [tokens, vocabulary](BackwardContext& context) {
    const GradientTarget dweight = context.target(0);
    if (!dweight.accumulate) dweight.tensor.fill_zero();
    const Groups groups = group_by_token(tokens.data<int32_t>(), tokens.size(0), vocabulary);
    backward(groups, context.output_gradient(0), dweight.tensor);
  });
}

}  // namespace sluice::ops
