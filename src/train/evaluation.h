// Perplexity of a model at many context lengths, by position.
//
// For a length L the stream is cut into windows of L tokens without overlap (train/window_scorer.h says which
// token is whose label). Every window starts from a zero state and sees nothing before its first token; every
// position is scored. Documents stay as stored: a window may begin inside one and go across several.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "train/window_scorer.h"

namespace sluice {

struct EvaluationOptions {
  int64_t segment = 2048;       // tokens a row advances in one forward pass
  int64_t batch_tokens = 8192;  // of one forward pass: as many windows side by side as fit
  int64_t max_tokens = 0;       // score the first so many tokens, at least one window; 0: all
  // Where a new position bucket begins, ascending; empty: 128 and its doublings.
  std::vector<int64_t> bucket_edges;
  // Run models whose state grows with the sequence beyond kGrowingStateReach * max_position_embeddings.
  bool allow_growing_state = false;

  static constexpr int64_t kGrowingStateReach = 16;
};

// Input positions [begin, end) of all windows.
struct PositionBucket {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t tokens = 0;
  double loss_sum = 0;

  double mean_loss() const { return loss_sum / static_cast<double>(tokens); }
  double perplexity() const;
};

struct LengthResult {
  int64_t length = 0;
  int64_t segment = 0;
  int64_t windows = 0;
  int64_t tokens = 0;  // scored: windows * length
  double loss_sum = 0;
  // Of the mean loss over windows: standard deviation / sqrt(windows). Absent for one window.
  std::optional<double> standard_error;
  PositionBucket second_half;  // [length / 2, length): what tools that give each token context first report
  std::vector<PositionBucket> buckets;
  int64_t state_bytes = 0;  // of one sequence at its end
  int64_t peak_bytes = 0;   // most tensor memory held at once, weights included
  double seconds = 0;
  // About the same tokens; filled in by whoever knows them.
  std::optional<int64_t> bytes;           // of text that the scored tokens stand for
  std::optional<double> bigram_loss_sum;  // of the baseline

  double mean_loss() const { return loss_sum / static_cast<double>(tokens); }
  double perplexity() const;
  std::optional<double> bits_per_byte() const;
};

// Buckets of [0, length): from `edges`, or where they are empty from 128 and its doublings.
std::vector<PositionBucket> make_buckets(int64_t length, const std::vector<int64_t>& edges);

// Everything that would stop evaluate_length, before the first is run. Error(kUsage): a length below 1, edges
// that do not ascend, a state that grows too large; Error(kData): fewer tokens than a length needs.
void check_evaluation(const LanguageModel& model, int64_t tokens, const std::vector<int64_t>& lengths,
                      const EvaluationOptions& options);

// Called after each forward pass with the tokens scored so far, of how many, and their mean loss.
using EvaluationProgress = std::function<void(int64_t done, int64_t total, double mean_loss)>;

LengthResult evaluate_length(const LanguageModel& model, const TokenStream& tokens, int64_t length,
                             const EvaluationOptions& options, const EvaluationProgress& progress = {});

// Sum of value_of_token[token] over the first `count` tokens that are ever scored: 1, ..., count of the
// stream. Error(kData) for a token that has no value.
int64_t sum_over_scored(const TokenStream& tokens, int64_t count, const std::vector<int32_t>& value_of_token);

}  // namespace sluice
