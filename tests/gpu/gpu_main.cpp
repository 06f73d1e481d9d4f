// Catch2's main for tests that need a GPU: where there is none they are skipped, which is not passed.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#define CATCH_CONFIG_RUNNER
#include "support/catch.h"

namespace {

constexpr int kSkipped = 77;  // what CTest knows as a skipped test

bool only_lists(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--list", 6) == 0 || std::strcmp(argv[i], "-l") == 0) return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  if (!only_lists(argc, argv) && (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)) {
    std::printf("skipped: no GPU on this machine\n");
    return kSkipped;
  }
  return Catch::Session().run(argc, argv);
}
