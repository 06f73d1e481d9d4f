#include "data/bare_tokens.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace sluice::bare_tokens {
namespace {

struct Signature {
  std::string_view bytes;
  const char* format;
};

// Nothing in a bare file can be checked, so at least the usual mix-ups are refused.
constexpr Signature kOthers[] = {
    {std::string_view("\x1f\x8b\x08", 3), "gzip"},
    {std::string_view("\xfd"
                      "7zXZ\0",
                      6),
     "xz"},
    {std::string_view("\x28\xb5\x2f\xfd", 4), "zstd"},
    {std::string_view("\x93NUMPY", 6), "NumPy"},
    {std::string_view("MMIDIDX", 7), "Megatron index"},
    {std::string_view("PAR1", 4), "Parquet"},
    {std::string_view("PK\x03\x04", 4), "zip"},
    {std::string_view("GGUF", 4), "GGUF"},
};

}  // namespace

TokenFile open(const std::filesystem::path& path) {
  const InputFile file(path, ErrorKind::kData);
  std::array<char, 16> head{};
  file.read_at(0, std::span(head).first(static_cast<size_t>(std::min<int64_t>(file.size(), 16))));
  for (const Signature& other : kOthers) {
    SLUICE_CHECK(!std::string_view(head.data(), head.size()).starts_with(other.bytes), kData,
                 "{}: is a {} file, not tokens; make token shards with `tokenize encode`", path.string(),
                 other.format);
  }
  SLUICE_CHECK(file.size() > 0, kData, "{}: is empty", path.string());
  SLUICE_CHECK(file.size() % 2 == 0, kData,
               "{}: {} bytes are no whole number of uint16 tokens, and no header says "
               "that it is something else; it is cut or no token file",
               path.string(), file.size());
  return TokenFile({.path = path,
                    .format = "bare uint16",
                    .type = TokenType::kUint16,
                    .offset = 0,
                    .count = file.size() / 2,
                    .file_bytes = file.size(),
                    .document_starts = {}});
}

}  // namespace sluice::bare_tokens
