// A shuffle without a table: a keyed bijection of [0, n) evaluated at any index in constant time and memory.
#pragma once

#include <array>
#include <cstdint>

namespace sluice {

// A Feistel network over Z_a x Z_b, a = ceil(sqrt(n)), b = ceil(n / a): index i is the pair (i / b, i % b),
// and the rounds add a keyed hash of one half to the other, each modulo its own size (the generalised network
// of Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). a * b exceeds n by less than
// a, so walking on until the image is below n takes hardly more than one turn.
class Permutation {
 public:
  // n >= 1. Keys are a function of (seed, epoch).
  Permutation(int64_t n, uint64_t seed, uint64_t epoch);

  int64_t operator()(int64_t index) const;  // where `index` goes
  int64_t inverse(int64_t image) const;     // (*this)(inverse(image)) == image

 private:
  static constexpr int kRounds = 8;  // even: each half is changed four times
  uint64_t forward(uint64_t value) const;
  uint64_t backward(uint64_t value) const;

  uint64_t n_, a_, b_;
  std::array<uint64_t, kRounds> keys_;
};

}  // namespace sluice
