// Environment switches. Every variable the programs read goes through here, starts with SLUICE_ and is listed
// below, with what holds without it.
//
// - SLUICE_LOG_LEVEL: debug, info, warning or error, the least level printed; info.
// - SLUICE_CACHE: 0 hands every tensor's memory on the CPU back at once, so that memory checkers see each
//   buffer; 1.
// - SLUICE_POISON: 1 fills every new tensor with NaN, so that tests see what nobody wrote; 0.
// - SLUICE_POISON_PRODUCTS: 1 fills what a matrix product on the GPU is about to write with NaN; 0.
// - SLUICE_FAULT: an injected fault for tests, as nan@12 (train/fault.h); none.
// - SLUICE_GOLDEN_DIR: the folder of golden cases that tests run; tests/golden.
#pragma once

#include <string>

namespace sluice::environment {

std::string text(const char* name, const std::string& fallback);
bool flag(const char* name, bool fallback);

}  // namespace sluice::environment
