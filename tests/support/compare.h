// Compares tensors so that nothing slips through: NaN and infinity must sit at the same places, no element
// may exceed its bound, and the error's RMS must be small against the reference's RMS. One bad row fails, and
// so does a scale error.
#pragma once

#include <string>

#include "tensor/tensor.h"

namespace sluice::test {

struct Tolerance {
  double rms_relative = 1e-6;  // RMS(actual - expected) / RMS(expected)
  // |actual - expected| <= elementwise * max(|expected|, RMS(expected)) for every element.
  double elementwise = 1e-4;
};

struct Comparison {
  bool pass = false;
  double rms_relative = 0;  // NaN when not comparable
  std::string message;      // what differs most, with its coordinate
};

Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance);

}  // namespace sluice::test

// Fails the test with the message when `actual` is not within the tolerance of `expected`.
#define CHECK_CLOSE(actual, expected, ...)                                                 \
  do {                                                                                     \
    const auto comparison_ = ::sluice::test::compare((actual), (expected), {__VA_ARGS__}); \
    INFO(#actual << " against " << #expected << ": " << comparison_.message);              \
    CHECK(comparison_.pass);                                                               \
  } while (false)
