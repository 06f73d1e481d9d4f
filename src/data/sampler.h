// The order of training: sample number i, counted over all ranks and epochs, is a pure function of i, so the
// whole state of a loader is one integer, whatever the world size and the number of sources.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/mix.h"

namespace sluice {

struct Sample {
  int64_t source;
  int64_t sequence;  // in its source
  int64_t epoch;     // of its source, from 0
};

// i -> (source s, how many samples of s came before) by the Mix; that count, split by the number of sequences
// of s, gives the epoch and the place in it; a Permutation keyed by (seed, s, epoch) gives the sequence. Each
// source goes through its own epochs and visits every sequence once in each.
class Sampler {
 public:
  // sequences[s] >= 1 is what source s holds. Without `shuffle` sequences come in order.
  Sampler(std::vector<int64_t> sequences, std::span<const double> weights, std::span<const std::string> names,
          bool shuffle, uint64_t seed);

  Sample sample(int64_t index) const;
  const Mix& mix() const { return mix_; }

 private:
  std::vector<int64_t> sequences_;
  Mix mix_;
  bool shuffle_;
  uint64_t seed_;
};

}  // namespace sluice
