// The sizes of a tensor, outermost first; at most kMaxRank of them, held inline.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace sluice {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);

  int rank() const { return rank_; }
  // Negative dimensions count from the end: shape[-1] is the last size.
  int64_t operator[](int dimension) const;
  void set(int dimension, int64_t size);
  void append(int64_t size);
  // Product of all sizes; 1 for rank 0. Error(kInternal) on 64-bit overflow.
  int64_t numel() const;
  // Product of all sizes but the last: the number of rows a row-wise kernel sees.
  int64_t rows() const;
  bool operator==(const Shape& other) const;
  std::string to_string() const;  // "[2, 3, 4]"

 private:
  int index(int dimension) const;
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

}  // namespace sluice
