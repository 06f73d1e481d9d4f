// Losses of the tokens in windows of a stream: what evaluation and validation are made of.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "data/token_stream.h"
#include "model/language_model.h"

namespace sluice {

// A stream of n tokens holds floor((n - 1) / length) windows: window w reads tokens [w * length,
// (w + 1) * length) and is scored on the token after each of them, so its last label is the first token of
// the next window, and the very first token of the stream is scored by nobody.
int64_t window_count(int64_t tokens, int64_t length);

// `losses[i]` is -log p (in nats) of the token after input position first_position + i of the window in
// `row`.
using LossVisitor = std::function<void(int64_t row, int64_t first_position, std::span<const double> losses)>;

// Windows [first, first + rows) side by side as the rows of one batch, each from a zero state. They run in
// segments of at most `segment` tokens with the state carried, so that memory does not depend on `length`
// for a model of constant state. Segments come in order, and in each the rows. Error(kNumerics) names the
// first token whose loss is not finite.
void score_windows(const LanguageModel& model, const TokenStream& tokens, int64_t length, int64_t first,
                   int64_t rows, int64_t segment, const LossVisitor& visit);

// i32 [N] where the model computes.
Tensor token_tensor(const LanguageModel& model, std::span<const int32_t> tokens);

// The mean loss over windows of training length: rows of a batch, no state.
struct ValidationResult {
  double loss = 0;  // nats a token
  int64_t tokens = 0;
};

// Windows [first, first + sequences) of the stream, or as many of them as there are, so that ranks may share
// the work. The same numbers whatever ran before. Error(kData) when the stream is shorter than one window.
ValidationResult validate(const LanguageModel& model, const TokenStream& tokens, int64_t length,
                          int64_t sequences, int64_t first = 0);

}  // namespace sluice
