#include "data/permutation.h"

#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace sluice {
namespace {

// Finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit.
uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}

uint64_t ceil_sqrt(uint64_t n) {
  auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(n)));
  while (root * root < n) ++root;
  while (root > 1 && (root - 1) * (root - 1) >= n) --root;
  return root;
}

}  // namespace

Permutation::Permutation(int64_t n, uint64_t seed, uint64_t epoch) : n_(static_cast<uint64_t>(n)) {
  SLUICE_ASSERT(n >= 1);
  a_ = ceil_sqrt(n_);
  b_ = (n_ + a_ - 1) / a_;
  const Philox random(seed, epoch);
  for (int round = 0; round < kRounds; ++round) keys_[round] = random.bits64(static_cast<uint64_t>(round));
}

uint64_t Permutation::forward(uint64_t value) const {
  uint64_t left = value / b_, right = value % b_;
  for (int round = 0; round < kRounds; round += 2) {
    left = (left + mix(right + keys_[round]) % a_) % a_;
    right = (right + mix(left + keys_[round + 1]) % b_) % b_;
  }
  return left * b_ + right;
}

uint64_t Permutation::backward(uint64_t value) const {
  uint64_t left = value / b_, right = value % b_;
  for (int round = kRounds - 2; round >= 0; round -= 2) {
    right = (right + b_ - mix(left + keys_[round + 1]) % b_) % b_;
    left = (left + a_ - mix(right + keys_[round]) % a_) % a_;
  }
  return left * b_ + right;
}

int64_t Permutation::operator()(int64_t index) const {
  SLUICE_ASSERT(index >= 0 && static_cast<uint64_t>(index) < n_);
  auto value = static_cast<uint64_t>(index);
  do {
    value = forward(value);
  } while (value >= n_);
  return static_cast<int64_t>(value);
}

int64_t Permutation::inverse(int64_t image) const {
  SLUICE_ASSERT(image >= 0 && static_cast<uint64_t>(image) < n_);
  auto value = static_cast<uint64_t>(image);
  do {
    value = backward(value);
  } while (value >= n_);
  return static_cast<int64_t>(value);
}

}  // namespace sluice
