// Drawing one token from the logits of a model.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/error.h"

namespace sluice {

// Logits are divided by `temperature`; of the tokens, the `top_k` most probable are kept; of those, the
// smallest set whose share of the remaining probability reaches `top_p` (nucleus sampling,
// arXiv 1904.09751). Among equal logits the lower id comes first.
struct ChoiceOptions {
  double temperature = 1.0;  // 0: the most probable token
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0;

  // Error(kUsage) when a value is out of range.
  void check() const;
};

// The token that `uniform` in [0, 1) falls on. Error(kNumerics) when the logits hold NaN or +infinity, or
// nothing above -infinity.
int32_t choose_token(std::span<const double> logits, const ChoiceOptions& options, double uniform);

}  // namespace sluice
