#include "data/sampler.h"

#include "core/error.h"
#include "data/permutation.h"

namespace sluice {

Sampler::Sampler(std::vector<int64_t> sequences, std::span<const double> weights,
                 std::span<const std::string> names, bool shuffle, uint64_t seed)
    : sequences_(std::move(sequences)), mix_(weights, names), shuffle_(shuffle), seed_(seed) {
  SLUICE_ASSERT(sequences_.size() == weights.size());
}

Sample Sampler::sample(int64_t index) const {
  const auto [source, count] = mix_.place(index);
  const int64_t sequences = sequences_[static_cast<size_t>(source)];
  const int64_t epoch = count / sequences, place = count % sequences;
  if (!shuffle_) return {source, place, epoch};
  // Sources of one size must not walk in step: an odd constant apart, their seeds give unrelated keys.
  const uint64_t seed = seed_ + static_cast<uint64_t>(source) * 0x9E3779B97F4A7C15ull;
  return {source, Permutation(sequences, seed, static_cast<uint64_t>(epoch))(place), epoch};
}

}  // namespace sluice
