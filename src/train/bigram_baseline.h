// What counting pairs of tokens achieves: a model that is not clearly better has learned nothing of context.
//
// Interpolated Kneser-Ney (Kneser and Ney 1995, as in Chen and Goodman 1998, section 2.7) of order two, its
// unigram interpolated with the uniform distribution over the vocabulary of V tokens:
//
//   p(w | v) = max(c(v, w) - D2, 0) / c(v) + D2 N(v, .) / c(v) * q(w)
//   q(w)     = max(N(., w) - D1, 0) / N(., .) + D1 U / N(., .) * 1 / V
//
// c counts pairs of consecutive training tokens, N(v, .) the different successors of v, N(., w) the different
// predecessors of w, N(., .) the different pairs and U the tokens with a predecessor; p(w | v) = q(w) where v
// was never followed by anything. A discount is D = n1 / (n1 + 2 n2), n1 and n2 being how many of the counts
// it is taken from are 1 and 2; 1/2 where one of them is 0.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/token_stream.h"

namespace sluice {

class BigramBaseline {
 public:
  // Counts pairs until finish(). Memory: 16 bytes a different pair (32 while merging), and 8 a buffered pair.
  explicit BigramBaseline(int64_t vocabulary, size_t buffered_pairs = size_t{1} << 24);

  // Consecutive training tokens; a pair across two calls is counted too.
  void add(std::span<const int32_t> tokens);
  // Estimates the discounts. Error(kData) when no pair was added.
  void finish();

  double probability(int32_t previous, int32_t token) const;
  // Sum over the tokens 1, ..., count of the stream of -log p(token | the one before), in nats.
  double loss_sum(const TokenStream& tokens, int64_t count) const;

  int64_t pairs() const { return pairs_; }  // counted
  int64_t distinct_pairs() const { return static_cast<int64_t>(counts_.size()); }

 private:
  void merge_pending();

  int64_t vocabulary_;
  size_t buffered_pairs_;
  int32_t last_ = -1;              // token that the next one follows
  std::vector<uint64_t> pending_;  // pairs v * V + w not merged yet
  std::vector<uint64_t> keys_;     // distinct pairs, ascending
  std::vector<int64_t> counts_;
  int64_t pairs_ = 0;

  std::vector<int64_t> first_key_;     // [V + 1]: where the pairs of v begin in keys_
  std::vector<int64_t> follower_sum_;  // [V]: c(v)
  std::vector<double> unigram_;        // [V]: q
  double discount_ = 0;                // D2
};

// The baseline of all tokens of a stream; progress is told of the tokens counted so far.
BigramBaseline count_bigrams(const TokenStream& tokens, int64_t vocabulary,
                             const std::function<void(int64_t)>& progress = {});

}  // namespace sluice
