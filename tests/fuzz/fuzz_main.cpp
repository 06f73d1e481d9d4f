// libFuzzer's entry: the target is named by SLUICE_FUZZ_TARGET.
#include <cstddef>
#include <cstdint>

#include "target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const sluice::fuzz::Target& target = sluice::fuzz::find_target(SLUICE_FUZZ_TARGET);
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
