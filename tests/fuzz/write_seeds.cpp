// fuzz_seeds FOLDER: the seeds of every target, as FOLDER/TARGET/seed_N.
#include <cstdio>
#include <filesystem>

#include "core/file.h"
#include "target.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("Usage: fuzz_seeds FOLDER\n", stderr);
    return 2;
  }
  for (const sluice::fuzz::Target& target : sluice::fuzz::targets()) {
    const std::filesystem::path folder = std::filesystem::path(argv[1]) / target.name;
    std::filesystem::create_directories(folder);
    int number = 0;
    for (const std::string& seed : target.seeds()) {
      sluice::OutputFile(folder / ("seed_" + std::to_string(number++)), sluice::ErrorKind::kInternal)
          .write(seed);
    }
  }
  return 0;
}
