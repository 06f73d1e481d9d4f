// Multi-query associative recall (Arora et al. 2023, arXiv 2312.04927): pairs of a key and its value, and
// later the keys again, each to be followed by its value.
//
//   k1 v1 k2 v2 ... kD vD | - - k2 v2 - - - - k1 v1 - -
//
// Tokens: 0 fills, keys are 1 to V/2 - 1, values V/2 to V - 1. An example is `length` tokens: first `pairs`
// pairs, then places of two tokens, of which each key takes one with its value behind it. Places are drawn
// without replacement, place i (from 1) in proportion to i^(power - 1): a small power brings most queries
// close to the pairs. In the original the place behind a query stays empty and the value is only a label;
// here labels are the tokens that follow, so the value stands there. What is to be foreseen are exactly the
// tokens from V/2 on behind the pairs: data.labels_from_token = V/2, data.labels_from_position = 2 * pairs.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::mqar {

struct Task {
  int64_t vocabulary = 8192;
  int64_t length = 512;  // tokens of an example
  int64_t pairs = 64;    // of an example, at most
  double power = 0.01;
  // Above 0: examples have pairs, pairs / 2, pairs / 4 and so on, but no fewer than these, drawn evenly, and
  // fill up in front, so that the pairs of all end at the same place. Easy ones show a model what to do.
  int64_t fewest_pairs = 0;
};

// Error(kUsage) for what does not fit.
void check(const Task& task);

// Example number `index` of the series of `seed`.
std::vector<int32_t> make_example(const Task& task, uint64_t seed, uint64_t index);

// Positions of an example whose next token is an answer.
std::vector<int64_t> queries(const Task& task, const std::vector<int32_t>& example);

}  // namespace sluice::mqar
