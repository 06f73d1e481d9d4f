#include "core/environment.h"

#include <cstdlib>

namespace sluice::environment {

std::string text(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::string(value) : fallback;
}

bool flag(const char* name, bool fallback) {
  const std::string value = text(name, fallback ? "1" : "0");
  return value != "0" && value != "off" && value != "false";
}

}  // namespace sluice::environment
