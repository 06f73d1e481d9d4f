#include "train/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/progress.h"

namespace sluice {
namespace {

constexpr int64_t kFirstEdge = 128;

int64_t windows_to_score(int64_t tokens, int64_t length, int64_t max_tokens) {
  const int64_t windows = window_count(tokens, length);
  return max_tokens > 0 ? std::min(windows, std::max<int64_t>(1, max_tokens / length)) : windows;
}

void check_state(const LanguageModel& model, int64_t length) {
  const int64_t trained = model.config().max_position_embeddings;
  const int64_t reach = EvaluationOptions::kGrowingStateReach * trained;
  SLUICE_CHECK(
      length <= reach, kUsage,
      "length {}: this {} model's state grows with the sequence, to {} for each window of that length, "
      "and the time of a token with it. Lengths beyond {} ({} x max_position_embeddings {}) run with "
      "--allow-growing-state",
      length, model.config().model_type, format_bytes(static_cast<double>(model.state_bytes(length))), reach,
      EvaluationOptions::kGrowingStateReach, trained);
}

// Spreads losses that start at `position` over the buckets.
void add_losses(std::vector<PositionBucket>& buckets, int64_t position, std::span<const double> losses) {
  auto bucket = std::upper_bound(buckets.begin(), buckets.end(), position,
                                 [](int64_t at, const PositionBucket& b) { return at < b.end; });
  for (const double loss : losses) {
    if (position == bucket->end) ++bucket;
    bucket->loss_sum += loss;
    ++bucket->tokens;
    ++position;
  }
}

std::optional<double> standard_error(const std::vector<double>& means) {
  const auto n = static_cast<double>(means.size());
  if (means.size() < 2) return std::nullopt;
  double mean = 0, squares = 0;
  for (const double value : means) mean += value / n;
  for (const double value : means) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / (n - 1) / n);
}

}  // namespace

double PositionBucket::perplexity() const { return std::exp(mean_loss()); }
double LengthResult::perplexity() const { return std::exp(mean_loss()); }

std::optional<double> LengthResult::bits_per_byte() const {
  if (!bytes || *bytes == 0) return std::nullopt;
  return loss_sum / std::numbers::ln2 / static_cast<double>(*bytes);
}

std::vector<PositionBucket> make_buckets(int64_t length, const std::vector<int64_t>& edges) {
  std::vector<int64_t> inner = edges;
  if (inner.empty()) {
    for (int64_t edge = kFirstEdge; edge < length; edge *= 2) inner.push_back(edge);
  }
  std::vector<PositionBucket> buckets;
  int64_t begin = 0;
  for (const int64_t edge : inner) {
    if (edge >= length) break;
    buckets.push_back({begin, edge});
    begin = edge;
  }
  buckets.push_back({begin, length});
  return buckets;
}

void check_evaluation(const LanguageModel& model, int64_t tokens, const std::vector<int64_t>& lengths,
                      const EvaluationOptions& options) {
  SLUICE_CHECK(!lengths.empty(), kUsage, "no length to evaluate at");
  SLUICE_CHECK(options.segment >= 1, kUsage, "a segment of {} tokens: it must be at least 1",
               options.segment);
  SLUICE_CHECK(options.batch_tokens >= 1, kUsage, "{} tokens a batch: it must be at least 1",
               options.batch_tokens);
  SLUICE_CHECK(options.max_tokens >= 0, kUsage, "{} tokens to score: it must be at least 0 (0: all)",
               options.max_tokens);
  int64_t previous = 0;
  for (const int64_t edge : options.bucket_edges) {
    SLUICE_CHECK(edge > previous, kUsage, "bucket edge {} after {}: edges must ascend, from at least 1", edge,
                 previous);
    previous = edge;
  }
  for (const int64_t length : lengths) {
    SLUICE_CHECK(length >= 1, kUsage, "length {}: it must be at least 1", length);
    if (!model.has_constant_state() && !options.allow_growing_state) check_state(model, length);
    SLUICE_CHECK(window_count(tokens, length) >= 1, kData,
                 "length {}: the data hold {} tokens, one window and its last label need {}", length, tokens,
                 length + 1);
  }
}

LengthResult evaluate_length(const LanguageModel& model, const TokenStream& tokens, int64_t length,
                             const EvaluationOptions& options, const EvaluationProgress& progress) {
  check_evaluation(model, tokens.size(), {length}, options);
  LengthResult result;
  result.length = length;
  result.segment = std::min(options.segment, length);
  result.windows = windows_to_score(tokens.size(), length, options.max_tokens);
  result.tokens = result.windows * length;
  result.state_bytes = model.state_bytes(length);
  result.buckets = make_buckets(length, options.bucket_edges);
  result.second_half = {length / 2, length};
  const int64_t rows = std::clamp<int64_t>(options.batch_tokens / result.segment, 1, result.windows);

  Allocator& allocator = allocator_of(model.device());
  allocator.reset_peak();
  const auto start = std::chrono::steady_clock::now();
  std::vector<double> window_sums(static_cast<size_t>(result.windows), 0.0);
  int64_t done = 0;
  for (int64_t first = 0; first < result.windows; first += rows) {
    const int64_t count = std::min(rows, result.windows - first);
    score_windows(model, tokens, length, first, count, result.segment,
                  [&](int64_t row, int64_t position, std::span<const double> losses) {
                    const auto size = static_cast<int64_t>(losses.size());
                    const int64_t skipped = std::clamp<int64_t>(result.second_half.begin - position, 0, size);
                    add_losses(result.buckets, position, losses);
                    for (const double loss : losses) window_sums[static_cast<size_t>(first + row)] += loss;
                    for (const double loss : losses) result.loss_sum += loss;
                    for (int64_t i = skipped; i < size; ++i) result.second_half.loss_sum += losses[i];
                    result.second_half.tokens += size - skipped;
                    done += size;
                    if (progress && row == count - 1) {
                      progress(done, result.tokens, result.loss_sum / static_cast<double>(done));
                    }
                  });
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.peak_bytes = allocator.statistics().peak;
  for (double& sum : window_sums) sum /= static_cast<double>(length);
  result.standard_error = standard_error(window_sums);
  return result;
}

int64_t sum_over_scored(const TokenStream& tokens, int64_t count,
                        const std::vector<int32_t>& value_of_token) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  std::vector<int32_t> piece;
  int64_t sum = 0;
  for (int64_t first = 1; first <= count; first += kPiece) {
    piece.resize(static_cast<size_t>(std::min(kPiece, count + 1 - first)));
    tokens.read(first, piece);
    for (const int32_t token : piece) {
      SLUICE_CHECK(token < static_cast<int64_t>(value_of_token.size()), kData,
                   "token {} is outside the vocabulary of {}", token, value_of_token.size());
      sum += value_of_token[static_cast<size_t>(token)];
    }
  }
  return sum;
}

}  // namespace sluice
