#include "support/compare.h"

#include <cmath>

#include "support/catch.h"
#include "support/random_tensor.h"

using namespace sluice;
using test::compare;

namespace {
const Tensor reference = test::random_normal({50, 20}, DType::kF64, 1);

Tensor changed(const std::function<void(double*)>& change) {
  const Tensor copy = reference.clone();
  change(copy.data<double>());
  return copy;
}
}  // namespace

TEST_CASE("the comparator accepts what is within tolerance") {
  CHECK(compare(reference, reference, {0, 0}).pass);
  CHECK(compare(changed([](double* v) { v[7] += 1e-8; }), reference, {1e-6, 1e-6}).pass);
  const Tensor nothing = Tensor::zeros({0, 3}, DType::kF64, Device::kCpu);
  CHECK(compare(nothing, nothing, {0, 0}).pass);
}

TEST_CASE("the comparator rejects NaN, infinity and their absence") {
  CHECK_FALSE(compare(changed([](double* v) { v[3] = NAN; }), reference, {1, 1}).pass);
  CHECK_FALSE(compare(test::poisoned({50, 20}, DType::kF64), reference, {1e9, 1e9}).pass);
  CHECK_FALSE(compare(reference, changed([](double* v) { v[3] = NAN; }), {1, 1}).pass);
  CHECK_FALSE(compare(changed([](double* v) { v[3] = -INFINITY; }),
                      changed([](double* v) { v[3] = INFINITY; }), {1, 1})
                  .pass);
}

TEST_CASE("the comparator rejects one bad row, one bad element and a scale error") {
  CHECK_FALSE(compare(changed([](double* v) {
                        for (int i = 0; i < 20; ++i) v[i] = 0;
                      }),
                      reference, {1e-3, 1})
                  .pass);
  CHECK_FALSE(compare(changed([](double* v) { v[999] += 0.01; }), reference, {1e-2, 1e-3}).pass);
  CHECK_FALSE(compare(changed([](double* v) {
                        for (int i = 0; i < 1000; ++i) v[i] *= 1.001;
                      }),
                      reference, {1e-4, 1})
                  .pass);
}

TEST_CASE("the comparator rejects other shapes and names the worst element") {
  CHECK_FALSE(compare(reference.view({20, 50}), reference, {1, 1}).pass);
  CHECK_FALSE(compare(Tensor(), reference, {1, 1}).pass);
  const auto result = compare(changed([](double* v) { v[3 * 20 + 5] += 7; }), reference, {1e-6, 1e-6});
  CHECK(result.message.find("[3, 5]") != std::string::npos);
}
