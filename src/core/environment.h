// Environment switches. Every variable the programs read goes through here, starts with SLUICE_ and is listed
// below.
//
//   SLUICE_LOG_LEVEL   debug, info, warning or error: least level printed (info)
//   SLUICE_CACHE       0: hand every tensor's memory back at once, so that memory checkers see each buffer
//   (1) SLUICE_FAULT       injected fault for tests, e.g. nan@12 : see train/fault.h SLUICE_GOLDEN_DIR folder
//   of golden cases the tests run (tests/golden)
#pragma once

#include <string>

namespace sluice::environment {

std::string text(const char* name, const std::string& fallback);
bool flag(const char* name, bool fallback);

}  // namespace sluice::environment
