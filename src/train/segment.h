// A training batch cut along its length for truncated backpropagation, as the tensors and the layout a model
// takes.
#pragma once

#include <vector>

#include "data/loader.h"
#include "ops/sequence_layout.h"
#include "tensor/tensor.h"

namespace sluice {

struct Segment {
  Tensor tokens;               // i32 [rows * length / segments], row after row
  Tensor labels;               // i32, same
  ops::SequenceLayout layout;  // rows, cut at document starts where documents are reset
};

// Part `index` of `segments` equal parts of every row.
Segment cut_segment(const Batch& batch, int64_t index, int64_t segments, bool reset_at_documents);

// For each row, the tokens from the start of the document that goes on at place `first` to there.
std::vector<int64_t> tokens_since_document_start(const Batch& batch, int64_t first);

// Labels that count in the loss.
int64_t count_labels(const Segment& segment);

}  // namespace sluice
