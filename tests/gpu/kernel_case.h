// Matrices for kernel tests: the same numbers on the host in double, for the CPU twin, and on the device in
// T, with rows that may lie apart or start anywhere. What lies between the rows is compared as well: nobody
// may write there.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/random.h"
#include "gpu/device_array.h"
#include "support/catch.h"

namespace sluice::test {

enum class Layout {
  kDense,
  kStrided,  // rows 48 elements apart beyond their length, 16-byte aligned
  kOdd,      // unaligned in every way
};

inline std::vector<double> random_values(int64_t count, uint64_t seed, double scale = 1) {
  const Philox philox(seed);
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * philox.normal(i);
  return values;
}

// How far results of T may be from the CPU twin in double. bfloat16: twice what rounding the result alone
// costs.
struct Bound {
  double rms, element;  // element: relative to the larger of the element and the reference's RMS
};
template <class T>
constexpr Bound bound_of() {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return {3.4e-3, 1.6e-2};
  } else {
    return {1e-5, 1e-4};
  }
}

// NaN has to be where NaN is expected and nowhere else.
template <class T>
void check_close(const std::string& what, const std::vector<double>& actual,
                 const std::vector<double>& expected, Bound bound = bound_of<T>()) {
  REQUIRE(actual.size() == expected.size());
  double squares = 0, errors = 0;
  size_t finite = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i])) continue;
    squares += expected[i] * expected[i];
    errors += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    ++finite;
  }
  if (finite == 0) {
    for (size_t i = 0; i < expected.size(); ++i) REQUIRE(std::isnan(actual[i]));
    return;
  }
  const double rms = std::sqrt(squares / static_cast<double>(finite));
  double worst = 0;
  size_t where = 0, misplaced = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) != std::isnan(actual[i])) misplaced += misplaced == 0 ? (where = i, 1) : 1;
    const double error = std::abs(actual[i] - expected[i]) / std::max(std::abs(expected[i]), rms);
    if (misplaced == 0 && error > worst) worst = error, where = i;
  }
  INFO(what << ": relative RMS " << std::sqrt(errors / squares) << ", worst element " << worst << " at "
            << where << ": " << actual[where] << " for " << expected[where] << ", " << misplaced
            << " NaN misplaced of " << expected.size());
  CHECK(misplaced == 0);
  if (squares == 0) {
    CHECK(errors == 0);
    return;
  }
  CHECK(std::sqrt(errors / squares) <= bound.rms);
  CHECK(worst <= bound.element);
}

template <class T>
class Matrix {
 public:
  // Random, or NaN where `scale` is 0: an output.
  Matrix(int64_t rows, int64_t columns, Layout layout, uint64_t seed, double scale = 1)
      : rows_(rows),
        columns_(columns),
        stride_(columns + (layout == Layout::kDense     ? 0
                           : layout == Layout::kStrided ? 48
                                                        : 3)),
        offset_(layout == Layout::kOdd ? 1 : 0),
        host_(scale != 0 ? as_seen_in<T>(random_values(size(), seed, scale))
                         : std::vector<double>(static_cast<size_t>(size()), std::nan(""))),
        device_(host_) {}

  int64_t stride() const { return stride_; }
  double* host() { return host_.data() + offset_; }
  T* device() const { return device_.data() + offset_; }
  std::vector<double> device_values() const { return device_.to_doubles(); }
  // Without what lies between the rows.
  std::vector<double> device_rows() const {
    const std::vector<double> all = device_values();
    std::vector<double> rows;
    for (int64_t row = 0; row < rows_; ++row) {
      const auto begin = all.begin() + offset_ + row * stride_;
      rows.insert(rows.end(), begin, begin + columns_);
    }
    return rows;
  }
  double& at(int64_t row, int64_t column) { return host()[row * stride_ + column]; }
  // After changes through at().
  void copy_to_device() const {
    std::vector<T> values;
    for (const double value : host_) values.push_back(rounded_to<T>(value));
    SLUICE_CUDA_CHECK(
        cudaMemcpy(device_.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  void check(const std::string& what, Bound bound = bound_of<T>()) const {
    check_close<T>(what, device_.to_doubles(), host_, bound);
  }
  // Whether every element of the rows is a number: the CPU twin wrote them all.
  bool is_written() {
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t column = 0; column < columns_; ++column) {
        if (std::isnan(at(row, column))) return false;
      }
    }
    return true;
  }

 private:
  int64_t size() const { return offset_ + rows_ * stride_; }
  int64_t rows_, columns_, stride_, offset_;
  std::vector<double> host_;
  DeviceArray<T> device_;
};

inline const char* name_of(Layout layout) {
  return layout == Layout::kDense ? "dense" : layout == Layout::kStrided ? "strided" : "odd";
}

// The same bits twice: runs `launch` on two fresh outputs.
template <class T, class Launch>
void check_repeats(const std::vector<double>& start, Launch&& launch) {
  const DeviceArray<T> first(start), second(start);
  launch(first.data());
  launch(second.data());
  const auto a = first.to_host(), b = second.to_host();
  CHECK(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace sluice::test
