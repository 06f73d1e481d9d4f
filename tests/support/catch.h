// Catch2 as the distribution ships it: version 2 is one header, version 3 has another name for it.
#pragma once

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

namespace sluice::test {

// Matcher for CHECK_THROWS_WITH and CHECK_THAT: the text holds `part`.
inline auto contains(const std::string& part) {
#if __has_include(<catch2/catch_all.hpp>)
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Contains(part);
#endif
}

}  // namespace sluice::test
