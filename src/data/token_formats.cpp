#include "data/token_formats.h"

#include <glob.h>

#include <algorithm>

#include "core/log.h"
#include "data/bare_tokens.h"
#include "data/llmc_shard.h"
#include "data/megatron_dataset.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) && !fs::is_directory(path, ignored);
}

std::vector<fs::path> list_directory(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code code;
  for (fs::directory_iterator at(directory, code), end; !code && at != end; at.increment(code)) {
    if (at->path().extension() == ".bin" && is_file(at->path())) found.push_back(at->path());
  }
  SLUICE_CHECK(!code, kData, "{}: cannot list directory: {}", directory.string(), code.message());
  std::sort(found.begin(), found.end());
  SLUICE_CHECK(!found.empty(), kData, "{}: no *.bin file in this directory", directory.string());
  return found;
}

std::vector<fs::path> match_pattern(const std::string& pattern) {
  glob_t matches{};
  const int result = ::glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<fs::path> found;
  for (size_t i = 0; result == 0 && i < matches.gl_pathc; ++i) {
    const fs::path path = matches.gl_pathv[i];
    // "P*" meets both files of a Megatron dataset; the index comes with its tokens.
    if (path.extension() != ".idx" && is_file(path)) found.push_back(path);
  }
  ::globfree(&matches);
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

TokenFile open_token_file(const fs::path& path) {
  if (path.extension() == ".bin" && is_file(megatron::index_path(path))) return megatron::open(path);
  if (llmc::is_llmc(InputFile(path, ErrorKind::kData))) return llmc::open(path);
  TokenFile file = bare_tokens::open(path);
  log::info("{}: no header, read as {} bare uint16 tokens", path.string(), file.size());
  return file;
}

std::vector<fs::path> expand_sources(const std::string& source) {
  const fs::path path = source;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return list_directory(path);
  if (is_file(path)) {
    return {path.extension() == ".idx" ? fs::path(path).replace_extension(".bin") : path};
  }
  if (is_file(source + ".bin") && is_file(source + ".idx")) return {source + ".bin"};
  std::vector<fs::path> found = match_pattern(source);
  SLUICE_CHECK(!found.empty(), kData, "{}: no such file or directory, and no file matches it as a pattern",
               source);
  return found;
}

}  // namespace sluice
