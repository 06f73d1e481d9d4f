#include "support/random_tensor.h"

#include "core/random.h"

namespace sluice::test {
namespace {

template <class Draw>
Tensor filled(const Shape& shape, DType dtype, Draw&& draw) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = draw(i);
  return Tensor::from<double>(shape, values).to(dtype);
}

}  // namespace

Tensor random_normal(const Shape& shape, DType dtype, uint64_t seed, double scale, double shift) {
  const Philox random(seed, 101);
  return filled(shape, dtype, [&](uint64_t i) { return random.normal(i) * scale + shift; });
}

Tensor random_uniform(const Shape& shape, DType dtype, uint64_t seed, double low, double high) {
  const Philox random(seed, 102);
  return filled(shape, dtype, [&](uint64_t i) { return low + (high - low) * random.uniform(i); });
}

Tensor random_integers(const Shape& shape, uint64_t seed, int32_t low, int32_t high) {
  const Philox random(seed, 103);
  std::vector<int32_t> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = low + static_cast<int32_t>(random.bits64(i) % static_cast<uint64_t>(high - low));
  }
  return Tensor::from<int32_t>(shape, values);
}

Tensor poisoned(const Shape& shape, DType dtype) {
  return filled(shape, dtype, [](uint64_t) { return std::numeric_limits<double>::quiet_NaN(); });
}

}  // namespace sluice::test
