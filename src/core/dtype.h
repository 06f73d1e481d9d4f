// Element types of tensors, chosen at run time, and the dispatch from a run-time type to a template argument.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/bfloat16.h"
#include "core/error.h"

namespace sluice {

enum class DType { kF32, kF64, kBF16, kI32 };

int64_t size_of(DType dtype);              // bytes of one element
const char* name_of(DType dtype);          // "f32", "f64", "bf16", "i32"
DType parse_dtype(std::string_view name);  // also "float32", "bfloat16", ...; Error(kUsage) on another name
bool is_floating(DType dtype);

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_of<bfloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::kI32;
}

// Calls body.template operator()<T>() with T = float or double. `op` names the caller in the error.
template <class Body>
decltype(auto) dispatch_compute(DType dtype, const char* op, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kF64:
      return body.template operator()<double>();
    default:
      SLUICE_FAIL(kInternal, "[{}] has no CPU implementation for dtype {}", op, name_of(dtype));
  }
}

}  // namespace sluice
