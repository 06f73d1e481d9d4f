// What a model says after every token of some windows, as a NumPy file, for comparing with other programs.
#pragma once

#include <filesystem>

#include "data/token_stream.h"
#include "model/language_model.h"

namespace sluice {

struct LogitsOptions {
  int64_t length = 0;      // tokens of a window; each starts from a zero state
  int64_t max_tokens = 0;  // windows in the first so many tokens, at least one; 0: all
  int64_t segment = 2048;  // tokens of one forward pass
};

// Writes f32 [windows, length, vocabulary] (f64 where the model computes in it), row t of a window being the
// logits after its tokens 0 to t. Returns the number of windows. Error(kData) where the tokens are fewer than
// one window or the file cannot be written; a file that cannot be finished is removed.
int64_t write_logits(const std::filesystem::path& path, const LanguageModel& model, const TokenStream& tokens,
                     const LogitsOptions& options);

}  // namespace sluice
