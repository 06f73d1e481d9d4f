// Compresses with the libraries that the readers under test decompress with.
#pragma once

#include <string>
#include <string_view>

namespace sluice::test {

std::string gzip(std::string_view text);
std::string xz(std::string_view text);
std::string zstd(std::string_view text);

}  // namespace sluice::test
