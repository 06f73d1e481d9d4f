// 64-bit fingerprints in JSON: 16 hexadecimal digits, since many readers hold numbers as doubles.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

class ObjectReader;

std::string format_fingerprint(uint64_t fingerprint);
// A required key; anything but 16 digits is a problem of the reader, and 0 stands in for it.
uint64_t read_fingerprint(ObjectReader& reader, std::string_view key);

}  // namespace sluice
