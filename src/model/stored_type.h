// Element types a safetensors file may hold, and their names there.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/dtype.h"

namespace sluice {

// In the format's own order, which is also the order of alignment.
enum class StoredType : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

const char* name_of(StoredType type);  // "BF16"
int64_t bits_of(StoredType type);      // of one element; 4 and 6 for the packed floats
std::optional<StoredType> parse_stored_type(std::string_view name);
StoredType stored_type_of(DType dtype);
// F64, F32, BF16 or F16: what converts to every floating dtype.
bool is_convertible_float(StoredType type);
// I32 or I64: what can be read as i32.
bool is_convertible_integer(StoredType type);

}  // namespace sluice
