#include "tensor/tensor.h"

#include <cstring>

#include "tensor/cuda_copy.h"
#include "tensor/device.h"

namespace sluice {

struct Tensor::Storage {
  Storage(int64_t size, Device on, MemoryClass of) : bytes(size), device(on), memory_class(of) {
    pointer = allocator_of(device).allocate(bytes, memory_class);
  }
  ~Storage() { allocator_of(device).release(pointer, bytes, memory_class); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* pointer;
  int64_t bytes;
  Device device;
  MemoryClass memory_class;
};

namespace {

// Elements from the start of a tensor to its row `row`, whatever its leading strides.
int64_t row_offset(const Tensor& tensor, int64_t row) {
  int64_t offset = 0;
  for (int i = tensor.rank() - 2; i >= 0; --i) {
    offset += row % tensor.size(i) * tensor.stride(i);
    row /= tensor.size(i);
  }
  return offset;
}

// Calls body(destination row, source row, columns) for each row of two tensors of one shape.
template <class To, class From, class Body>
void for_each_row(const Tensor& to, const Tensor& from, Body&& body) {
  if (to.numel() == 0) return;
  const int64_t columns = to.rank() == 0 ? 1 : to.size(-1);
  const int64_t rows = to.numel() / columns;
  To* to_data = to.data<To>();
  const From* from_data = from.data<From>();
  // Dense tensors are cut into pieces of even size, so that a long vector is not one row.
  if (to.is_contiguous() && from.is_contiguous()) {
    constexpr int64_t kPiece = 16384;
    const int64_t elements = rows * columns;
#pragma omp parallel for if (elements > 4 * kPiece)
    for (int64_t first = 0; first < elements; first += kPiece) {
      body(to_data + first, from_data + first, std::min(kPiece, elements - first));
    }
    return;
  }
#pragma omp parallel for if (rows * columns > 65536)
  for (int64_t row = 0; row < rows; ++row) {
    body(to_data + row_offset(to, row), from_data + row_offset(from, row), columns);
  }
}

template <class Body>
void dispatch_storage(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kF64:
      return body.template operator()<double>();
    case DType::kBF16:
      return body.template operator()<bfloat16>();
    case DType::kI32:
      return body.template operator()<int32_t>();
  }
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return static_cast<To>(to_float(value));
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor tensor;
  int64_t bytes = 0;
  SLUICE_CHECK(!__builtin_mul_overflow(shape.numel(), size_of(dtype), &bytes), kInternal,
               "a tensor of shape {} has more than 2^63 bytes", shape.to_string());
  tensor.storage_ = std::make_shared<Storage>(bytes, device, MemoryClassScope::current());
  tensor.shape_ = shape;
  tensor.dtype_ = dtype;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    tensor.strides_[i] = stride;
    stride *= shape[i];
  }
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor tensor = empty(shape, dtype, device);
  tensor.fill_zero();
  return tensor;
}

template <class T>
Tensor Tensor::from(const Shape& shape, const std::vector<T>& values) {
  SLUICE_CHECK(shape.numel() == static_cast<int64_t>(values.size()), kInternal,
               "{} values for a tensor of shape {}", values.size(), shape.to_string());
  Tensor tensor = empty(shape, dtype_of<T>(), Device::kCpu);
  if (!values.empty()) std::memcpy(tensor.raw_data(), values.data(), values.size() * sizeof(T));
  return tensor;
}

Device Tensor::device() const {
  SLUICE_ASSERT(defined());
  return storage_->device;
}

int64_t Tensor::stride(int dimension) const {
  const int at = dimension < 0 ? dimension + rank() : dimension;
  SLUICE_ASSERT(at >= 0 && at < rank());
  return strides_[at];
}

bool Tensor::is_contiguous() const {
  int64_t expected = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[i] != expected) return false;
    expected *= shape_[i];
  }
  return true;
}

int64_t Tensor::row_stride() const {
  require_foldable();
  for (int i = rank() - 2; i >= 0; --i) {
    if (shape_[i] != 1) return strides_[i];
  }
  return rank() == 0 ? 1 : shape_[-1];
}

void Tensor::require_foldable() const {
  // Row r of the folded tensor must lie at r * stride: each leading stride is the next one times its size.
  int64_t expected = 0;
  for (int i = rank() - 2; i >= 0; --i) {
    if (shape_[i] == 1) continue;
    SLUICE_CHECK(expected == 0 || strides_[i] == expected, kInternal,
                 "a tensor of shape {} has strides that do not fold into rows", shape_.to_string());
    expected = strides_[i] * shape_[i];
  }
}

template <class T>
T* Tensor::data() const {
  SLUICE_ASSERT(defined());
  SLUICE_CHECK(dtype_ == dtype_of<T>(), kInternal, "a tensor of dtype {} is used as {}", name_of(dtype_),
               name_of(dtype_of<T>()));
  return static_cast<T*>(storage_->pointer) + offset_;
}

void* Tensor::raw_data() const {
  SLUICE_ASSERT(defined());
  return static_cast<char*>(storage_->pointer) + offset_ * size_of(dtype_);
}

Tensor Tensor::view(const Shape& shape) const {
  SLUICE_CHECK(shape.numel() == numel(), kInternal, "cannot view shape {} as {}", shape_.to_string(),
               shape.to_string());
  Tensor result = *this;
  result.shape_ = shape;
  result.strides_ = {};
  // The inner run of dimensions that makes up one row of the old shape is contiguous; the rest counts rows.
  const int64_t columns = is_contiguous() ? numel() : rank() == 0 ? 1 : shape_[-1];
  const int64_t row_step = is_contiguous() ? columns : row_stride();
  int64_t inner = 1;
  int64_t stride = 1;
  bool in_rows = false;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (!in_rows && inner == columns && shape[i] != 1) {
      in_rows = true;
      stride = row_step;
    }
    result.strides_[i] = stride;
    if (!in_rows) {
      inner *= shape[i];
      SLUICE_CHECK(numel() == 0 || inner <= columns, kInternal, "cannot view strided shape {} as {}",
                   shape_.to_string(), shape.to_string());
    }
    stride *= shape[i];
  }
  SLUICE_CHECK(numel() == 0 || inner == columns, kInternal, "cannot view strided shape {} as {}",
               shape_.to_string(), shape.to_string());
  return result;
}

Tensor Tensor::narrow(int dimension, int64_t start, int64_t length) const {
  const int at = dimension < 0 ? dimension + rank() : dimension;
  SLUICE_CHECK(at >= 0 && at < rank() && start >= 0 && length >= 0 && start + length <= shape_[at], kInternal,
               "narrow to [{}, {}) in dimension {} of shape {}", start, start + length, dimension,
               shape_.to_string());
  Tensor result = *this;
  result.offset_ += start * strides_[at];
  result.shape_.set(at, length);
  return result;
}

bool Tensor::same_view(const Tensor& other) const {
  if (storage_ != other.storage_ || offset_ != other.offset_ || !(shape_ == other.shape_)) return false;
  for (int i = 0; i < rank(); ++i) {
    if (shape_[i] != 1 && strides_[i] != other.strides_[i]) return false;
  }
  return true;
}

Tensor Tensor::clone() const {
  Tensor copy = empty(shape_, dtype_, device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor copy = empty(shape_, dtype, device());
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor copy = empty(shape_, dtype_, device);
  copy.copy_from(*this);
  return copy;
}

void Tensor::copy_from(const Tensor& source) const {
  SLUICE_CHECK(shape_ == source.shape_, kInternal, "cannot copy shape {} into {}", source.shape_.to_string(),
               shape_.to_string());
  if (device() == Device::kCuda || source.device() == Device::kCuda) return cuda::copy(*this, source);
  dispatch_storage(dtype_, [&]<class To>() {
    dispatch_storage(source.dtype_, [&]<class From>() {
      for_each_row<To, From>(*this, source, [](To* to, const From* from, int64_t columns) {
        if constexpr (std::is_same_v<To, From>) {
          std::memcpy(to, from, static_cast<size_t>(columns) * sizeof(To));
        } else {
          for (int64_t i = 0; i < columns; ++i) to[i] = convert<To>(from[i]);
        }
      });
    });
  });
}

void Tensor::fill_zero() const {
  if (device() == Device::kCuda) return cuda::fill_zero(*this);
  dispatch_storage(dtype_, [&]<class T>() {
    for_each_row<T, T>(*this, *this, [](T* to, const T*, int64_t columns) {
      std::memset(static_cast<void*>(to), 0, static_cast<size_t>(columns) * sizeof(T));
    });
  });
}

void Tensor::add_from(const Tensor& source) const {
  SLUICE_CHECK(shape_ == source.shape_ && dtype_ == source.dtype_, kInternal, "cannot add {} {} to {} {}",
               name_of(source.dtype_), source.shape_.to_string(), name_of(dtype_), shape_.to_string());
  if (device() == Device::kCuda) return cuda::add(*this, source);
  dispatch_compute(dtype_, "add", [&]<class T>() {
    for_each_row<T, T>(*this, source, [](T* to, const T* from, int64_t columns) {
      for (int64_t i = 0; i < columns; ++i) to[i] += from[i];
    });
  });
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor flat = to(Device::kCpu).contiguous();
  const T* values = flat.data<T>();
  return std::vector<T>(values, values + numel());
}

double Tensor::item() const {
  SLUICE_ASSERT(numel() == 1);
  return to(Device::kCpu).to(DType::kF64).to_vector<double>()[0];
}

template Tensor Tensor::from(const Shape&, const std::vector<float>&);
template Tensor Tensor::from(const Shape&, const std::vector<double>&);
template Tensor Tensor::from(const Shape&, const std::vector<bfloat16>&);
template Tensor Tensor::from(const Shape&, const std::vector<int32_t>&);
template float* Tensor::data() const;
template double* Tensor::data() const;
template bfloat16* Tensor::data() const;
template int32_t* Tensor::data() const;
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<bfloat16> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;

}  // namespace sluice
