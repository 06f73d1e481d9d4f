#include "train/window_scorer.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/error.h"

namespace sluice {
namespace {

// Tokens of one forward pass in validation; the logits of a pass never exist whole, its activations do.
constexpr int64_t kValidationTokens = 8192;

void require_finite(std::span<const double> losses, int64_t window, int64_t first_position) {
  for (size_t i = 0; i < losses.size(); ++i) {
    SLUICE_CHECK(std::isfinite(losses[i]), kNumerics,
                 "the loss after position {} of window {} is {}: the model's weights or its arithmetic are "
                 "broken",
                 first_position + static_cast<int64_t>(i), window, losses[i]);
  }
}

}  // namespace

int64_t window_count(int64_t tokens, int64_t length) {
  SLUICE_ASSERT(length >= 1);
  return tokens > 1 ? (tokens - 1) / length : 0;
}

Tensor token_tensor(const LanguageModel& model, std::span<const int32_t> tokens) {
  const Shape shape{static_cast<int64_t>(tokens.size())};
  const Tensor host = Tensor::from(shape, std::vector<int32_t>(tokens.begin(), tokens.end()));
  if (model.device() == Device::kCpu) return host;
  const Tensor copy = Tensor::empty(shape, DType::kI32, model.device());
  copy.copy_from(host);
  return copy;
}

void score_windows(const LanguageModel& model, const TokenStream& tokens, int64_t length, int64_t first,
                   int64_t rows, int64_t segment, const LossVisitor& visit) {
  SLUICE_ASSERT(length >= 1 && segment >= 1 && rows >= 1 && first >= 0);
  SLUICE_ASSERT(first + rows <= window_count(tokens.size(), length));
  const NoGradScope no_grad;
  std::optional<ModelState> state;
  if (segment < length) state = model.make_state(rows);
  std::vector<int32_t> inputs, labels, read;
  for (int64_t start = 0; start < length; start += segment) {
    const int64_t count = std::min(segment, length - start);
    inputs.clear();
    labels.clear();
    read.resize(static_cast<size_t>(count + 1));
    for (int64_t row = 0; row < rows; ++row) {
      tokens.read((first + row) * length + start, read);
      inputs.insert(inputs.end(), read.begin(), read.end() - 1);
      labels.insert(labels.end(), read.begin() + 1, read.end());
    }
    const Variable hidden = model.forward(
        token_tensor(model, inputs), ops::SequenceLayout::uniform(rows, count), state ? &*state : nullptr);
    const std::vector<double> losses = model.token_losses(hidden, token_tensor(model, labels))
                                           .to(Device::kCpu)
                                           .to(DType::kF64)
                                           .to_vector<double>();
    for (int64_t row = 0; row < rows; ++row) {
      const auto of_row =
          std::span(losses).subspan(static_cast<size_t>(row * count), static_cast<size_t>(count));
      require_finite(of_row, first + row, start);
      visit(row, start, of_row);
    }
  }
}

ValidationResult validate(const LanguageModel& model, const TokenStream& tokens, int64_t length,
                          int64_t sequences, int64_t first) {
  const int64_t windows = window_count(tokens.size(), length);
  SLUICE_CHECK(windows >= 1, kData, "validation data hold {} tokens; one window of {} and its label need {}",
               tokens.size(), length, length + 1);
  const int64_t end = std::min(windows, first + sequences);
  const int64_t rows = std::max<int64_t>(1, kValidationTokens / length);
  ValidationResult result;
  double sum = 0;
  for (int64_t window = first; window < end; window += rows) {
    const int64_t count = std::min(rows, end - window);
    score_windows(model, tokens, length, window, count, length,
                  [&](int64_t, int64_t, std::span<const double> losses) {
                    for (const double loss : losses) sum += loss;
                  });
    result.tokens += count * length;
  }
  if (result.tokens > 0) result.loss = sum / static_cast<double>(result.tokens);
  return result;
}

}  // namespace sluice
