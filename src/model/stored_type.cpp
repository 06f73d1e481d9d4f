#include "model/stored_type.h"

#include <array>

namespace sluice {
namespace {

struct Row {
  const char* name;
  int64_t bits;
};

constexpr std::array<Row, 22> kRows = {{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};
static_assert(kRows.size() == static_cast<size_t>(StoredType::kU64) + 1);

}  // namespace

const char* name_of(StoredType type) { return kRows[static_cast<size_t>(type)].name; }

int64_t bits_of(StoredType type) { return kRows[static_cast<size_t>(type)].bits; }

std::optional<StoredType> parse_stored_type(std::string_view name) {
  for (size_t i = 0; i < kRows.size(); ++i) {
    if (name == kRows[i].name) return static_cast<StoredType>(i);
  }
  return std::nullopt;
}

StoredType stored_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return StoredType::kF32;
    case DType::kF64:
      return StoredType::kF64;
    case DType::kBF16:
      return StoredType::kBF16;
    case DType::kI32:
      return StoredType::kI32;
  }
  SLUICE_FAIL(kInternal, "unknown dtype {}", static_cast<int>(dtype));
}

bool is_convertible_float(StoredType type) {
  return type == StoredType::kF32 || type == StoredType::kF64 || type == StoredType::kBF16 ||
         type == StoredType::kF16;
}

bool is_convertible_integer(StoredType type) { return type == StoredType::kI32 || type == StoredType::kI64; }

}  // namespace sluice
