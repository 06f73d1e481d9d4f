// A typed, shaped view of device memory. Copying a Tensor shares the memory. The last dimension is
// contiguous; the others may be strided, so that a slice of a merged projection needs no copy.
//
//   Tensor y = Tensor::empty({rows, 3 * c}, DType::kF32, Device::kCpu);
//   Tensor k = y.columns(c, c);            // [rows, c], row_stride() == 3 * c
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "tensor/allocator.h"

namespace sluice {

class Tensor {
 public:
  Tensor() = default;  // undefined

  // Uninitialised. The memory class is MemoryClassScope::current().
  static Tensor empty(const Shape& shape, DType dtype, Device device);
  static Tensor zeros(const Shape& shape, DType dtype, Device device);
  template <class T>
  static Tensor from(const Shape& shape, const std::vector<T>& values);  // on the CPU

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t size(int dimension) const { return shape_[dimension]; }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const;
  int64_t bytes() const { return numel() * size_of(dtype_); }
  int64_t stride(int dimension) const;  // in elements
  bool is_contiguous() const;

  // The tensor as rows of its last dimension: how many, and elements from one to the next.
  // Error(kInternal) where the leading dimensions do not fold into one stride.
  int64_t rows() const { return shape_.rows(); }
  int64_t row_stride() const;

  // Typed pointer to the first element; Error(kInternal) when T is not the dtype.
  template <class T>
  T* data() const;
  void* raw_data() const;

  // Same memory, other shape of equally many elements; the leading dimensions must fold (see row_stride)
  // unless the last size stays.
  Tensor view(const Shape& shape) const;
  Tensor narrow(int dimension, int64_t start, int64_t length) const;
  Tensor columns(int64_t start, int64_t count) const { return narrow(-1, start, count); }
  // True when both start at the same byte of the same memory and have one shape and strides.
  bool same_view(const Tensor& other) const;

  Tensor clone() const;                        // contiguous copy
  Tensor contiguous() const;                   // itself when contiguous, else clone()
  Tensor to(DType dtype) const;                // contiguous copy in another type; itself when equal
  Tensor to(Device device) const;              // contiguous copy on another device; itself when there already
  void copy_from(const Tensor& source) const;  // same shape; converts between floating types
  void fill_zero() const;
  void add_from(
      const Tensor& source) const;  // this += source, same shape and dtype (f32, f64; bf16 on a GPU)

  // The elements in row-major order, after waiting for the device; Error(kInternal) when T is not the dtype.
  template <class T>
  std::vector<T> to_vector() const;
  double item() const;  // the one element of a floating tensor

 private:
  struct Storage;
  void require_foldable() const;

  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // elements
  Shape shape_;
  std::array<int64_t, Shape::kMaxRank> strides_{};
  DType dtype_ = DType::kF32;
};

}  // namespace sluice
