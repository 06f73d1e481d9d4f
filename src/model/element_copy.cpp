#include "model/element_copy.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace sluice {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

struct Half {
  uint16_t bits;
};

template <class T>
T load(const std::byte* in, int64_t index) {
  T value;
  std::memcpy(&value, in + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void store(std::byte* out, int64_t index, T value) {
  std::memcpy(out + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<From, bfloat16>) {
    return convert<To>(to_float(value));
  } else if constexpr (std::is_same_v<From, Half>) {
    return convert<To>(half_to_float(value.bits));
  } else if constexpr (std::is_same_v<To, bfloat16>) {
    return to_bfloat16(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, Half>) {
    return Half{float_to_half(static_cast<float>(value))};
  } else {
    return static_cast<To>(value);
  }
}

template <class To, class From>
void convert_array(const std::byte* in, std::byte* out, int64_t count) {
#pragma omp parallel for if (count > 65536)
  for (int64_t i = 0; i < count; ++i) store(out, i, convert<To>(load<From>(in, i)));
}

template <class From>
void convert_floats_to(const std::byte* in, StoredType to, std::byte* out, int64_t count) {
  switch (to) {
    case StoredType::kF32:
      return convert_array<float, From>(in, out, count);
    case StoredType::kF64:
      return convert_array<double, From>(in, out, count);
    case StoredType::kBF16:
      return convert_array<bfloat16, From>(in, out, count);
    case StoredType::kF16:
      return convert_array<Half, From>(in, out, count);
    default:
      SLUICE_FAIL(kInternal, "floating elements cannot become {}", name_of(to));
  }
}

int64_t narrow_integers(const std::byte* in, std::byte* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const auto value = load<int64_t>(in, i);
    if (value != static_cast<int32_t>(value)) return i;
    store(out, i, static_cast<int32_t>(value));
  }
  return count;
}

// Elements from the start of the tensor to its row `row`, whatever its leading strides.
int64_t row_offset(const Tensor& tensor, int64_t row) {
  int64_t offset = 0;
  for (int i = tensor.rank() - 2; i >= 0; --i) {
    offset += row % tensor.size(i) * tensor.stride(i);
    row /= tensor.size(i);
  }
  return offset;
}

}  // namespace

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t widened = exponent == 0x1f ? 0xffu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | widened << 23 | mantissa << 13);
}

// A float is rounded to even at 11 bits by adding half of the last place kept; below 2^-14 that place is
// 2^-24.
uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and beyond
  if (magnitude < 0x38800000u) {
    // Adding 0.5 leaves the value, rounded to multiples of 2^-24, in the mantissa.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

void convert_floats(StoredType from, const std::byte* in, StoredType to, std::byte* out, int64_t count) {
  if (from == to) {
    if (count > 0) std::memcpy(out, in, static_cast<size_t>(count * bits_of(to) / 8));
    return;
  }
  switch (from) {
    case StoredType::kF32:
      return convert_floats_to<float>(in, to, out, count);
    case StoredType::kF64:
      return convert_floats_to<double>(in, to, out, count);
    case StoredType::kBF16:
      return convert_floats_to<bfloat16>(in, to, out, count);
    case StoredType::kF16:
      return convert_floats_to<Half>(in, to, out, count);
    default:
      SLUICE_FAIL(kInternal, "{} elements cannot become {}", name_of(from), name_of(to));
  }
}

int64_t convert_elements(StoredType from, const std::byte* in, DType to, std::byte* out, int64_t count) {
  if (from == stored_type_of(to)) {
    if (count > 0) std::memcpy(out, in, static_cast<size_t>(count * size_of(to)));
    return count;
  }
  if (from == StoredType::kI64) {
    SLUICE_ASSERT(to == DType::kI32);
    return narrow_integers(in, out, count);
  }
  convert_floats(from, in, stored_type_of(to), out, count);
  return count;
}

void for_each_run(const Tensor& tensor, int64_t first, int64_t count,
                  const std::function<void(std::byte*, int64_t)>& body) {
  auto* const start = static_cast<std::byte*>(tensor.raw_data());
  const int64_t element = size_of(tensor.dtype());
  if (tensor.is_contiguous()) {
    if (count > 0) body(start + first * element, count);
    return;
  }
  const int64_t columns = tensor.size(-1);
  for (int64_t done = 0; done < count;) {
    const int64_t row = (first + done) / columns;
    const int64_t column = (first + done) % columns;
    const int64_t run = std::min(columns - column, count - done);
    body(start + (row_offset(tensor, row) + column) * element, run);
    done += run;
  }
}

}  // namespace sluice
