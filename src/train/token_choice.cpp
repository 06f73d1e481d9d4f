#include "train/token_choice.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sluice {
namespace {

// How many candidates are sorted before asking whether they hold top_p already; sorting all of a large
// vocabulary for each token would cost more than a small model does.
constexpr size_t kFirstSorted = 64;

struct Candidate {
  int32_t token;
  double weight;  // probability times a constant
};

bool more_probable(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

int32_t most_probable(std::span<const double> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void require_usable(std::span<const double> logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    SLUICE_CHECK(logits[i] < INFINITY, kNumerics,
                 "the logit of token {} is {}: the model's weights or its arithmetic are broken", i,
                 logits[i]);
  }
  SLUICE_CHECK(!logits.empty() && logits[most_probable(logits)] > -INFINITY, kNumerics,
               "no token has a probability above 0");
}

double total_weight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

// Leaves the candidates of the nucleus, sorted; sorts in portions that grow fourfold.
void keep_nucleus(std::vector<Candidate>& candidates, double top_p) {
  const double wanted = top_p * total_weight(candidates);
  double sum = 0;
  size_t sorted = 0;
  while (sorted < candidates.size()) {
    const size_t end = std::min(candidates.size(), std::max(kFirstSorted, 4 * sorted));
    std::partial_sort(candidates.begin() + sorted, candidates.begin() + end, candidates.end(), more_probable);
    for (; sorted < end; ++sorted) {
      sum += candidates[sorted].weight;
      if (sum >= wanted) return candidates.resize(sorted + 1);
    }
  }
}

}  // namespace

void ChoiceOptions::check() const {
  SLUICE_CHECK(temperature >= 0 && std::isfinite(temperature), kUsage,
               "temperature {}: it must be at least 0 (0: always the most probable token)", temperature);
  SLUICE_CHECK(top_k >= 0, kUsage, "top-k {}: it must be at least 0 (0: all tokens)", top_k);
  SLUICE_CHECK(top_p > 0 && top_p <= 1, kUsage, "top-p {}: it must be above 0 and at most 1", top_p);
}

int32_t choose_token(std::span<const double> logits, const ChoiceOptions& options, double uniform) {
  require_usable(logits);
  const int32_t best = most_probable(logits);
  if (options.temperature == 0 || options.top_k == 1) return best;
  std::vector<Candidate> candidates(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<int32_t>(i), std::exp((logits[i] - logits[best]) / options.temperature)};
  }
  const auto k = static_cast<size_t>(options.top_k);
  if (k > 0 && k < candidates.size()) {
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<int64_t>(k), candidates.end(),
                      more_probable);
    candidates.resize(k);
  }
  if (options.top_p < 1) keep_nucleus(candidates, options.top_p);
  double left = uniform * total_weight(candidates);
  for (const Candidate& candidate : candidates) {
    left -= candidate.weight;
    if (left < 0) return candidate.token;
  }
  // Rounding may leave a rest at the end: the last token that has a probability.
  const auto last = std::find_if(candidates.rbegin(), candidates.rend(),
                                 [](const Candidate& candidate) { return candidate.weight > 0; });
  return last->token;
}

}  // namespace sluice
