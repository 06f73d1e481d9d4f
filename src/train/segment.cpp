#include "train/segment.h"

#include <algorithm>

#include "core/error.h"

namespace sluice {
namespace {

std::vector<int32_t> cut(const std::vector<int32_t>& values, const Batch& batch, int64_t first,
                         int64_t length) {
  std::vector<int32_t> part;
  part.reserve(static_cast<size_t>(batch.rows * length));
  for (int64_t row = 0; row < batch.rows; ++row) {
    const auto begin = values.begin() + row * batch.length + first;
    part.insert(part.end(), begin, begin + length);
  }
  return part;
}

}  // namespace

Segment cut_segment(const Batch& batch, int64_t index, int64_t segments, bool reset_at_documents) {
  SLUICE_ASSERT(batch.length % segments == 0);
  const int64_t length = batch.length / segments, first = index * length;
  const Shape shape{batch.rows * length};
  Segment segment;
  segment.tokens = Tensor::from<int32_t>(shape, cut(batch.tokens, batch, first, length));
  segment.labels = Tensor::from<int32_t>(shape, cut(batch.labels, batch, first, length));
  segment.layout =
      reset_at_documents
          ? ops::SequenceLayout::cut_at(batch.rows, length, cut(batch.document_starts, batch, first, length))
          : ops::SequenceLayout::uniform(batch.rows, length);
  return segment;
}

std::vector<int64_t> tokens_since_document_start(const Batch& batch, int64_t first) {
  std::vector<int64_t> tokens;
  for (int64_t row = 0; row < batch.rows; ++row) {
    // A row begins a sequence, flagged or not.
    int64_t start = first - 1;
    while (start > 0 && batch.document_starts[static_cast<size_t>(row * batch.length + start)] == 0) --start;
    tokens.push_back(first - std::max<int64_t>(start, 0));
  }
  return tokens;
}

int64_t count_labels(const Segment& segment) {
  const int32_t* labels = segment.labels.data<int32_t>();
  return std::count_if(labels, labels + segment.labels.numel(),
                       [](int32_t label) { return label != kIgnoredLabel; });
}

}  // namespace sluice
