#include "train/checkpoint_verify.h"

#include "core/file.h"
#include "core/sha256.h"
#include "train/checkpoint_names.h"
#include "train/moments_names.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

void check_plain(const fs::path& path, const ManifestFile& file) {
  std::error_code code;
  const fs::file_status status = fs::symlink_status(path, code);
  SLUICE_CHECK(status.type() != fs::file_type::not_found, kCheckpoint,
               "{}: is missing; the manifest lists it with {} bytes", path.string(), file.bytes);
  SLUICE_CHECK(!code, kCheckpoint, "{}: cannot stat: {}", path.string(), code.message());
  SLUICE_CHECK(fs::is_regular_file(status), kCheckpoint,
               "{}: is no plain file; a checkpoint holds no links or devices", path.string());
}

void check_file(const fs::path& directory, const ManifestFile& file, VerifyLevel level) {
  const fs::path path = directory / file.name;
  check_plain(path, file);
  const int64_t bytes = InputFile(path, ErrorKind::kCheckpoint).size();
  SLUICE_CHECK(bytes == file.bytes, kCheckpoint, "{}: has {} bytes, the manifest says {}", path.string(),
               bytes, file.bytes);
  if (level == VerifyLevel::kSize) return;
  const std::string hash = sha256_file(path, ErrorKind::kCheckpoint);
  SLUICE_CHECK(hash == file.sha256, kCheckpoint, "{}: its sha256 is {}, the manifest says {}", path.string(),
               hash, file.sha256);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

VerifyLevel parse_verify_level(const std::string& name) {
  if (name == "full") return VerifyLevel::kFull;
  SLUICE_CHECK(name == "size", kUsage, "checkpoint.verify: \"full\" or \"size\" is needed, got \"{}\"", name);
  return VerifyLevel::kSize;
}

Manifest verify_checkpoint(const fs::path& directory, VerifyLevel level) {
  SLUICE_CHECK(is_there(directory / kManifestName), kCheckpoint,
               "{}: holds no {}, so it is no checkpoint, or one that was never finished", directory.string(),
               kManifestName);
  Manifest manifest = read_manifest(directory);
  const auto named_step = step_of_name(directory.filename().string());
  SLUICE_CHECK(!named_step || *named_step == manifest.step, kCheckpoint,
               "{}: the manifest says step {}; the directory was renamed, or another's manifest put into it",
               directory.string(), manifest.step);
  for (const char* name : {"config.json", "model.safetensors", "trainer/run.json", "trainer/state.json"}) {
    SLUICE_CHECK(manifest.find(name) != nullptr, kCheckpoint, "{}: the manifest does not list {}",
                 (directory / kManifestName).string(), name);
  }
  std::vector<std::string> names;
  for (const ManifestFile& file : manifest.files) names.push_back(file.name);
  SLUICE_CHECK(has_all_moments(names), kCheckpoint,
               "{}: the manifest does not list trainer/optimizer.safetensors, nor all of its shards",
               (directory / kManifestName).string());
  std::error_code code;
  SLUICE_CHECK(!fs::is_symlink(directory / "trainer", code), kCheckpoint,
               "{}: is no plain directory; a checkpoint holds no links", (directory / "trainer").string());
  for (const ManifestFile& file : manifest.files) check_file(directory, file, level);
  const std::string& run_hash = manifest.find("trainer/run.json")->sha256;
  SLUICE_CHECK(run_hash == manifest.run_config_sha256, kCheckpoint,
               "{}: run_config_sha256 is {}, but trainer/run.json is listed with {}",
               (directory / kManifestName).string(), manifest.run_config_sha256, run_hash);
  return manifest;
}

std::optional<FoundCheckpoint> newest_valid_checkpoint(const fs::path& directory, VerifyLevel level,
                                                       std::string& report) {
  report.clear();
  for (const fs::path& path : list_checkpoints(directory)) {
    std::string refusal;
    try {
      Manifest manifest = verify_checkpoint(path, level);
      if (!manifest.poisoned) return FoundCheckpoint{path, std::move(manifest)};
      refusal = fmt::format("{}: its weights are not finite, so it is marked as poisoned", path.string());
    } catch (const Error& error) {
      refusal = error.what();
    }
    if (!report.empty()) report += '\n';
    report += refusal;
  }
  return std::nullopt;
}

fs::path resolve_checkpoint(const fs::path& path, VerifyLevel level) {
  SLUICE_CHECK(is_folder(path), kCheckpoint, "{}: there is no such directory", path.string());
  if (is_there(path / kManifestName)) {
    verify_checkpoint(path, level);
    return path;
  }
  const bool is_run = is_folder(path / "checkpoints");
  const fs::path directory = is_run ? path / "checkpoints" : path;
  if (is_run || !list_checkpoints(directory).empty()) {
    std::string report;
    if (auto found = newest_valid_checkpoint(directory, level, report)) return found->directory;
    SLUICE_CHECK(!report.empty(), kCheckpoint, "{}: holds no checkpoints yet", directory.string());
    SLUICE_FAIL(kCheckpoint, "{}: none of its checkpoints can be used:\n{}", directory.string(), report);
  }
  SLUICE_CHECK(
      is_there(path / "config.json"), kCheckpoint,
      "{}: found neither {} (a checkpoint), checkpoints/ or step_* (a run), nor config.json (a Hugging "
      "Face directory)",
      path.string(), kManifestName);
  return path;
}

}  // namespace sluice
