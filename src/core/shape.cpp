#include "core/shape.h"

#include "core/error.h"

namespace sluice {

Shape::Shape(std::initializer_list<int64_t> sizes) {
  for (int64_t size : sizes) append(size);
}

int Shape::index(int dimension) const {
  const int at = dimension < 0 ? dimension + rank_ : dimension;
  SLUICE_CHECK(at >= 0 && at < rank_, kInternal, "dimension {} of a tensor of rank {}", dimension, rank_);
  return at;
}

int64_t Shape::operator[](int dimension) const { return sizes_[index(dimension)]; }

void Shape::set(int dimension, int64_t size) { sizes_[index(dimension)] = size; }

void Shape::append(int64_t size) {
  SLUICE_CHECK(rank_ < kMaxRank, kInternal, "a tensor has at most {} dimensions", kMaxRank);
  SLUICE_CHECK(size >= 0, kInternal, "negative size {} in dimension {}", size, rank_);
  sizes_[rank_++] = size;
}

int64_t Shape::numel() const {
  int64_t product = 1;
  for (int i = 0; i < rank_; ++i) {
    SLUICE_CHECK(!__builtin_mul_overflow(product, sizes_[i], &product), kInternal,
                 "shape {} has more than 2^63 elements", to_string());
  }
  return product;
}

int64_t Shape::rows() const {
  int64_t product = 1;
  for (int i = 0; i + 1 < rank_; ++i) product *= sizes_[i];
  return product;
}

bool Shape::operator==(const Shape& other) const {
  if (rank_ != other.rank_) return false;
  for (int i = 0; i < rank_; ++i) {
    if (sizes_[i] != other.sizes_[i]) return false;
  }
  return true;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(sizes_[i]);
  return text + "]";
}

}  // namespace sluice
