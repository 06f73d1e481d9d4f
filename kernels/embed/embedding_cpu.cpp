#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/embed/embedding.h"

namespace sluice::kernels::cpu {
namespace {

// The places of each distinct token, ascending: group g's are order[begin[g]] ... order[begin[g + 1] - 1].
struct Groups {
  std::vector<int32_t> token;
  std::vector<int64_t> begin;
  std::vector<int64_t> order;
};

Groups group_by_token(const int32_t* tokens, int64_t count, int64_t vocabulary) {
  const auto known = [&](int32_t token) { return token >= 0 && token < vocabulary; };
  // Counting sort: next[t] is where token t's next place goes.
  std::vector<int64_t> next(static_cast<size_t>(vocabulary) + 1, 0);
  for (int64_t i = 0; i < count; ++i) {
    if (known(tokens[i])) ++next[static_cast<size_t>(tokens[i]) + 1];
  }
  Groups groups;
  for (size_t token = 0; token < static_cast<size_t>(vocabulary); ++token) {
    if (next[token + 1] > 0) {
      groups.token.push_back(static_cast<int32_t>(token));
      groups.begin.push_back(next[token]);
    }
    next[token + 1] += next[token];
  }
  groups.begin.push_back(next.back());
  groups.order.resize(static_cast<size_t>(next.back()));
  for (int64_t i = 0; i < count; ++i) {
    if (known(tokens[i])) groups.order[static_cast<size_t>(next[static_cast<size_t>(tokens[i])]++)] = i;
  }
  return groups;
}

}  // namespace

template <class T>
void embedding_forward(const EmbeddingForward<T>& p) {
#pragma omp parallel for if (p.rows * p.columns > 65536)
  for (int64_t row = 0; row < p.rows; ++row) {
    const int32_t token = p.tokens[row];
    T* y = p.y + row * p.y_stride;
    if (token < 0 || token >= p.vocabulary) {
      std::fill_n(y, p.columns, std::numeric_limits<T>::quiet_NaN());
    } else {
      std::copy_n(p.weight + token * p.weight_stride, p.columns, y);
    }
  }
}

template <class T>
void embedding_backward(const EmbeddingBackward<T>& p) {
  const Groups groups = group_by_token(p.tokens, p.rows, p.vocabulary);
  const auto count = static_cast<int64_t>(groups.token.size());
  // Groups differ widely in size: frequent tokens are dealt out as threads come free. One thread owns a
  // group, so that the sum's order depends on nothing else.
#pragma omp parallel for schedule(dynamic, 8) if (p.rows * p.columns > 65536)
  for (int64_t g = 0; g < count; ++g) {
    const auto group = static_cast<size_t>(g);
    T* sum = p.dweight + groups.token[group] * p.dweight_stride;
    for (int64_t at = groups.begin[group]; at < groups.begin[group + 1]; ++at) {
      const T* dy = p.dy + groups.order[static_cast<size_t>(at)] * p.dy_stride;
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
