#include "train/checkpoint_manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "config/json.h"
#include "config/object_reader.h"
#include "core/file.h"
#include "core/sha256.h"
#include "train/fingerprint.h"

namespace sluice {
namespace {

constexpr int64_t kFormatVersion = 1;
constexpr int64_t kMaximumBytes = 1 << 20;  // a manifest lists about ten files
constexpr std::string_view kOpening = "{\n";
constexpr std::string_view kHashBegin = "  \"sha256\": \"";
constexpr std::string_view kHashEnd = "\",\n";
constexpr size_t kHashDigits = 64;

std::string hash_of(std::string_view text) { return sha256_hex(std::as_bytes(std::span(text))); }

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Letters, digits, '.', '_' and '-', not starting with '.': neither a path nor anything hidden.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name[0] != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool is_allowed_name(std::string_view name) {
  constexpr std::string_view kFolder = "trainer/";
  if (name.starts_with(kFolder)) return is_plain_name(name.substr(kFolder.size()));
  return is_plain_name(name) && name != kManifestName && name != "trainer";
}

// The second line must read exactly as it is written, and the hash in it must be that of all other lines.
void check_own_hash(const std::string& text, const std::string& path) {
  const size_t line = kHashBegin.size() + kHashDigits + kHashEnd.size();
  const std::string_view view = text;
  SLUICE_CHECK(view.size() > kOpening.size() + line && view.starts_with(kOpening) &&
                   view.substr(kOpening.size(), kHashBegin.size()) == kHashBegin &&
                   view.substr(kOpening.size() + line - kHashEnd.size(), kHashEnd.size()) == kHashEnd,
               kCheckpoint, "{}: its second line is not its sha256; the file is cut or was not written here",
               path);
  const std::string_view claimed = view.substr(kOpening.size() + kHashBegin.size(), kHashDigits);
  const std::string actual = hash_of(text.substr(0, kOpening.size()) + text.substr(kOpening.size() + line));
  SLUICE_CHECK(claimed == actual, kCheckpoint,
               "{}: sha256 of its other lines is {}, but its second line says {}", path, actual,
               printable(claimed));
}

std::vector<ManifestFile> read_files(ObjectReader& reader, Problems& problems) {
  std::vector<ManifestFile> files;
  const Json* list = reader.raw("files");
  if (list == nullptr || !list->is_array()) {
    reader.problem("files", "an array is needed");
    return files;
  }
  std::set<std::string> seen;
  for (size_t i = 0; i < list->size(); ++i) {
    ObjectReader entry((*list)[i], fmt::format("files.{}", i), problems);
    ManifestFile file;
    file.name = entry.required_text("name");
    file.bytes = entry.required_integer("bytes", 0);
    file.sha256 = entry.required_text("sha256");
    entry.finish();
    if (!is_allowed_name(file.name)) {
      entry.problem("name", fmt::format("{} is no plain file name; only files beside the manifest and in "
                                        "trainer/ belong to a checkpoint",
                                        printable(file.name)));
    }
    if (!seen.insert(file.name).second) {
      entry.problem("name", fmt::format("{} is listed twice", printable(file.name)));
    }
    if (!is_hash(file.sha256)) entry.problem("sha256", "64 hexadecimal digits are needed");
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

const ManifestFile* Manifest::find(std::string_view name) const {
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const ManifestFile& file) { return file.name == name; });
  return found == files.end() ? nullptr : &*found;
}

std::string format_manifest(const Manifest& manifest) {
  Json json = {{"format_version", kFormatVersion},
               {"step", manifest.step},
               {"tokens", manifest.tokens},
               {"poisoned", manifest.poisoned},
               {"run_config_sha256", manifest.run_config_sha256},
               {"data_fingerprint", format_fingerprint(manifest.data_fingerprint)},
               {"files", Json::array()}};
  for (const ManifestFile& file : manifest.files) {
    json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  std::string text = dump_json(json) + "\n";
  const std::string hash = hash_of(text);
  text.insert(kOpening.size(), std::string(kHashBegin) + hash + std::string(kHashEnd));
  return text;
}

Manifest read_manifest(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kManifestName;
  const int64_t size = InputFile(path, ErrorKind::kCheckpoint).size();
  SLUICE_CHECK(size <= kMaximumBytes, kCheckpoint,
               "{}: {} bytes are too many for a manifest; the limit is {}", path.string(), size,
               kMaximumBytes);
  const std::string text = read_text_file(path, ErrorKind::kCheckpoint);
  check_own_hash(text, path.string());

  const Json json = parse_json(text, path.string(), ErrorKind::kCheckpoint);
  Problems problems;
  ObjectReader reader(json, "", problems);
  const int64_t version = reader.required_integer("format_version", 1);
  if (problems.empty() && version != kFormatVersion) {
    SLUICE_FAIL(kCheckpoint, "{}: format version {}; this program reads version {}", path.string(), version,
                kFormatVersion);
  }
  Manifest manifest;
  reader.ignore("sha256");
  manifest.step = reader.required_integer("step", 0);
  manifest.tokens = reader.required_integer("tokens", 0);
  manifest.poisoned = reader.required_boolean("poisoned");
  manifest.run_config_sha256 = reader.required_text("run_config_sha256");
  manifest.data_fingerprint = read_fingerprint(reader, "data_fingerprint");
  manifest.files = read_files(reader, problems);
  reader.finish();
  problems.throw_if_any(path.string(), ErrorKind::kCheckpoint);
  return manifest;
}

}  // namespace sluice
