// A model run forward on carried states, several texts side by side: prompts in long passes, then one token a
// text and pass. On a GPU single tokens replay a recorded graph where the state has a fixed shape.
#pragma once

#include <span>
#include <vector>

#include "model/language_model.h"
#include "tensor/device_graph.h"

namespace sluice {

class Decoder {
 public:
  // `rows` texts, each from an empty state.
  Decoder(const LanguageModel& model, int64_t rows);

  // Appends tokens [rows, n], row after row, in passes of at most `segment` tokens a row. Returns the logits
  // of what follows, [rows, vocabulary].
  std::vector<double> advance(std::span<const int32_t> tokens, int64_t segment);
  // The same, left on the model's device; the next call may write over them.
  Tensor advance_on_device(std::span<const int32_t> tokens, int64_t segment);

  // Prompts of any lengths, one a row and none empty, in a single pass; only for a decoder that has seen
  // nothing.
  std::vector<double> begin(std::span<const std::vector<int32_t>> prompts);

  int64_t rows() const { return rows_; }
  int64_t state_bytes() const { return state_.bytes(); }

 private:
  Tensor pass(const Tensor& tokens, const ops::SequenceLayout& layout);
  Tensor step(std::span<const int32_t> tokens);

  const LanguageModel& model_;
  int64_t rows_;
  ModelState state_;
  ops::SequenceLayout step_layout_;  // one token a row
  Tensor step_tokens_, step_logits_;
  int64_t steps_ = 0;  // since the last longer pass
  DeviceGraph graph_;
};

}  // namespace sluice
