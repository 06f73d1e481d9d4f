#include "train/decoder.h"

#include "core/error.h"
#include "ops/embedding.h"
#include "tensor/launch.h"
#include "train/window_scorer.h"

namespace sluice {

Decoder::Decoder(const LanguageModel& model, int64_t rows)
    : model_(model),
      rows_(rows),
      state_(model.make_state(rows)),
      step_layout_(ops::SequenceLayout::uniform(rows, 1)),
      step_tokens_(Tensor::empty(Shape{rows}, DType::kI32, model.device())),
      step_logits_(Tensor::empty(Shape{rows, model.config().vocab_size}, accumulate_dtype(model.dtype()),
                                 model.device())) {
  step_layout_.reuses_states = true;
}

std::vector<double> Decoder::advance(std::span<const int32_t> tokens, int64_t segment) {
  return advance_on_device(tokens, segment).to(Device::kCpu).to(DType::kF64).to_vector<double>();
}

Tensor Decoder::advance_on_device(std::span<const int32_t> tokens, int64_t segment) {
  const auto length = static_cast<int64_t>(tokens.size()) / rows_;
  SLUICE_ASSERT(length >= 1 && length * rows_ == static_cast<int64_t>(tokens.size()) && segment >= 1);
  const NoGradScope no_grad;
  Tensor logits;
  if (length == 1) {
    logits = step(tokens);
  } else {
    steps_ = 0;
    graph_.clear();  // a longer pass moves the state to other memory
    std::vector<int32_t> part;
    for (int64_t first = 0; first < length; first += segment) {
      const int64_t count = std::min(segment, length - first);
      part.clear();
      for (int64_t row = 0; row < rows_; ++row) {
        const auto from = tokens.begin() + row * length + first;
        part.insert(part.end(), from, from + count);
      }
      logits = pass(token_tensor(model_, part), ops::SequenceLayout::uniform(rows_, count));
    }
  }
  return logits;
}

std::vector<double> Decoder::begin(std::span<const std::vector<int32_t>> prompts) {
  SLUICE_ASSERT(static_cast<int64_t>(prompts.size()) == rows_);
  const NoGradScope no_grad;
  ops::SequenceLayout layout;
  std::vector<int32_t> tokens, last;
  layout.slots = rows_;
  layout.offsets.push_back(0);
  for (const std::vector<int32_t>& prompt : prompts) {
    SLUICE_ASSERT(!prompt.empty());
    tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    last.push_back(static_cast<int32_t>(tokens.size()) - 1);
    layout.offsets.push_back(static_cast<int64_t>(tokens.size()));
    layout.state_in.push_back(-1);
    layout.state_out.push_back(static_cast<int64_t>(layout.state_out.size()));
  }
  const Variable hidden = model_.forward(token_tensor(model_, tokens), layout, &state_);
  // Looking rows up by number is what an embedding does.
  const Variable selected = ops::embedding(token_tensor(model_, last), hidden);
  return model_.logits(selected).to(Device::kCpu).to(DType::kF64).to_vector<double>();
}

// One pass over the same number of tokens in each row; the logits after the last of each.
Tensor Decoder::pass(const Tensor& tokens, const ops::SequenceLayout& layout) {
  const Variable hidden = model_.forward(tokens, layout, &state_);
  const int64_t length = tokens.numel() / rows_, width = hidden.size(1);
  const Tensor last = hidden.value().view({rows_, length, width}).narrow(1, length - 1, 1);
  return model_.logits(Variable(last.contiguous().view({rows_, width})));
}

Tensor Decoder::step(std::span<const int32_t> tokens) {
  const bool with_graph = model_.device() == Device::kCuda && state_.has_fixed_shape();
  const Tensor given = token_tensor(model_, tokens);
  if (!with_graph || steps_++ == 0) return pass(given, step_layout_);
  step_tokens_.copy_from(given);
  if (!graph_.recorded()) {
    graph_.record([this] {
      // What the pass made anew of the state goes back to where the next replay reads it.
      const ModelState kept = state_.clone();
      step_logits_.copy_from(pass(step_tokens_, step_layout_));
      kept.overwrite(state_);
      state_ = kept.clone();
    });
  }
  graph_.replay();
  return step_logits_;
}

}  // namespace sluice
