// manifest.json: what a checkpoint consists of. It is written last, so a directory without it was never
// finished, and every byte of a checkpoint is covered by a hash in it.
//
//   {
//     "sha256": "<of this file without this line: sed 2d manifest.json | sha256sum>",
//     "format_version": 1,
//     "step": 1000,
//     "tokens": 65536000,
//     "poisoned": false,
//     "run_config_sha256": "<of trainer/run.json>",
//     "data_fingerprint": "00c0ffee00c0ffee",
//     "files": [{"name": "model.safetensors", "bytes": 1234, "sha256": "..."}, ...]
//   }
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct ManifestFile {
  std::string name;  // "model.safetensors", or "trainer/state.json"
  int64_t bytes = 0;
  std::string sha256;
};

struct Manifest {
  int64_t step = 0;
  int64_t tokens = 0;
  bool poisoned = false;
  std::string run_config_sha256;
  uint64_t data_fingerprint = 0;
  std::vector<ManifestFile> files;

  const ManifestFile* find(std::string_view name) const;  // nullptr where there is none
};

inline constexpr const char* kManifestName = "manifest.json";

std::string format_manifest(const Manifest& manifest);

// Checks the manifest's own hash, its form, and that the names of its files are plain names, here or in
// trainer/, each once. Error(kCheckpoint) with the file and what is wrong; the files are not looked at.
Manifest read_manifest(const std::filesystem::path& directory);

}  // namespace sluice
