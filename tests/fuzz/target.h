// What is fuzzed: each reader of files that come from elsewhere. A reader must take any bytes: read them or
// throw Error, and nothing else.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fuzz {

struct Target {
  const char* name;
  // Reads the bytes as a file of the format; returns whether it was one. Throws only what is a mistake.
  std::function<bool(std::string_view bytes)> run;
  // Files of the format to start from.
  std::function<std::vector<std::string>()> seeds;
  int mutations;  // in the suite, about a second's worth
};

const std::vector<Target>& targets();
const Target& find_target(std::string_view name);  // Error(kUsage) lists the names

}  // namespace sluice::fuzz
