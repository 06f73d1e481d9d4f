#include "train/bigram_baseline.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sluice {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;

double discount_of(const std::vector<int64_t>& counts) {
  const auto n1 = static_cast<double>(std::count(counts.begin(), counts.end(), 1));
  const auto n2 = static_cast<double>(std::count(counts.begin(), counts.end(), 2));
  return n1 > 0 && n2 > 0 ? n1 / (n1 + 2 * n2) : 0.5;
}

}  // namespace

BigramBaseline::BigramBaseline(int64_t vocabulary, size_t buffered_pairs)
    : vocabulary_(vocabulary), buffered_pairs_(buffered_pairs) {
  SLUICE_ASSERT(vocabulary >= 1 && vocabulary <= int64_t{1} << 31);
}

void BigramBaseline::add(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    SLUICE_CHECK(token >= 0 && token < vocabulary_, kData,
                 "token {} in the training data of the bigram baseline is outside the vocabulary of {}",
                 token, vocabulary_);
    if (last_ >= 0) {
      pending_.push_back(static_cast<uint64_t>(last_) * static_cast<uint64_t>(vocabulary_) +
                         static_cast<uint64_t>(token));
      if (pending_.size() >= buffered_pairs_) merge_pending();
    }
    last_ = token;
  }
}

void BigramBaseline::merge_pending() {
  std::sort(pending_.begin(), pending_.end());
  std::vector<uint64_t> keys;
  std::vector<int64_t> counts;
  keys.reserve(keys_.size());
  counts.reserve(keys_.size());
  size_t old = 0;
  for (size_t i = 0; i < pending_.size();) {
    const uint64_t key = pending_[i];
    size_t end = i;
    while (end < pending_.size() && pending_[end] == key) ++end;
    for (; old < keys_.size() && keys_[old] < key; ++old) {
      keys.push_back(keys_[old]);
      counts.push_back(counts_[old]);
    }
    const bool known = old < keys_.size() && keys_[old] == key;
    keys.push_back(key);
    counts.push_back(static_cast<int64_t>(end - i) + (known ? counts_[old++] : 0));
    i = end;
  }
  keys.insert(keys.end(), keys_.begin() + static_cast<int64_t>(old), keys_.end());
  counts.insert(counts.end(), counts_.begin() + static_cast<int64_t>(old), counts_.end());
  keys_ = std::move(keys);
  counts_ = std::move(counts);
  pairs_ += static_cast<int64_t>(pending_.size());
  pending_.clear();
}

void BigramBaseline::finish() {
  merge_pending();
  SLUICE_CHECK(pairs_ > 0, kData, "the bigram baseline needs at least two training tokens");
  const auto size = static_cast<size_t>(vocabulary_);
  first_key_.assign(size + 1, 0);
  follower_sum_.assign(size, 0);
  std::vector<int64_t> predecessors(size, 0);
  for (size_t i = 0; i < keys_.size(); ++i) {
    const uint64_t previous = keys_[i] / size;
    ++first_key_[previous + 1];
    follower_sum_[previous] += counts_[i];
    ++predecessors[keys_[i] % size];
  }
  for (size_t v = 0; v < size; ++v) first_key_[v + 1] += first_key_[v];
  discount_ = discount_of(counts_);

  const double discount = discount_of(predecessors);
  const auto distinct = static_cast<double>(keys_.size());
  const auto seen = static_cast<double>(
      std::count_if(predecessors.begin(), predecessors.end(), [](int64_t n) { return n > 0; }));
  const double uniform = discount * seen / distinct / static_cast<double>(vocabulary_);
  unigram_.resize(size);
  for (size_t w = 0; w < size; ++w) {
    unigram_[w] = std::max(static_cast<double>(predecessors[w]) - discount, 0.0) / distinct + uniform;
  }
}

double BigramBaseline::probability(int32_t previous, int32_t token) const {
  SLUICE_ASSERT(!unigram_.empty());
  SLUICE_CHECK(previous >= 0 && token >= 0 && previous < vocabulary_ && token < vocabulary_, kData,
               "tokens {}, {} are outside the bigram baseline's vocabulary of {}", previous, token,
               vocabulary_);
  const auto v = static_cast<size_t>(previous);
  const double unigram = unigram_[static_cast<size_t>(token)];
  const auto total = static_cast<double>(follower_sum_[v]);
  if (total == 0) return unigram;
  const auto begin = keys_.begin() + first_key_[v], end = keys_.begin() + first_key_[v + 1];
  const uint64_t key =
      static_cast<uint64_t>(v) * static_cast<uint64_t>(vocabulary_) + static_cast<uint64_t>(token);
  const auto found = std::lower_bound(begin, end, key);
  double seen = 0;
  if (found != end && *found == key) {
    seen = static_cast<double>(counts_[static_cast<size_t>(found - keys_.begin())]) - discount_;
  }
  return (seen + discount_ * static_cast<double>(end - begin) * unigram) / total;
}

double BigramBaseline::loss_sum(const TokenStream& tokens, int64_t count) const {
  std::vector<int32_t> piece;
  double sum = 0;
  for (int64_t first = 0; first < count; first += kPiece) {
    piece.resize(static_cast<size_t>(std::min(kPiece, count - first) + 1));
    tokens.read(first, piece);
    for (size_t i = 1; i < piece.size(); ++i) sum -= std::log(probability(piece[i - 1], piece[i]));
  }
  return sum;
}

BigramBaseline count_bigrams(const TokenStream& tokens, int64_t vocabulary,
                             const std::function<void(int64_t)>& progress) {
  BigramBaseline baseline(vocabulary);
  std::vector<int32_t> piece;
  for (int64_t first = 0; first < tokens.size(); first += kPiece) {
    piece.resize(static_cast<size_t>(std::min(kPiece, tokens.size() - first)));
    tokens.read(first, piece);
    baseline.add(piece);
    if (progress) progress(first + static_cast<int64_t>(piece.size()));
  }
  baseline.finish();
  return baseline;
}

}  // namespace sluice
