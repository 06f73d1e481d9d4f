#include "data/llmc_shard.h"

#include <algorithm>

namespace sluice::llmc {
namespace {

using Header = std::array<int32_t, kHeaderInts>;

constexpr int32_t kMagic16 = 20240520, kVersion16 = 1;
constexpr int32_t kMagic32 = 20240801, kVersion32 = 7;

// Other files of the same family, so that the message can say what the file is.
const char* other_kind(int32_t magic) {
  switch (magic) {
    case 20240522:
      return "multiple-choice evaluation set";
    case 20240326:
      return "model checkpoint";
    case 20240527:
      return "training state";
    case 20240328:
      return "tokenizer";
    default:
      return nullptr;
  }
}

bool is_token_magic(int32_t magic) { return magic == kMagic16 || magic == kMagic32; }

// A shard in all but its magic: a version we know, zeros to the end of the header, and the size that fits.
bool has_shape_of_shard(const Header& header, int64_t file_bytes) {
  const int64_t token_bytes = header[1] == kVersion16 ? 2 : header[1] == kVersion32 ? 4 : 0;
  return token_bytes != 0 && header[2] > 0 && file_bytes == kHeaderBytes + header[2] * token_bytes &&
         std::all_of(header.begin() + 3, header.end(), [](int32_t value) { return value == 0; });
}

}  // namespace

bool is_llmc(const InputFile& file) {
  Header header{};
  const auto head = std::as_writable_bytes(std::span(header));
  file.read_at(0, head.first(static_cast<size_t>(std::min(file.size(), kHeaderBytes))));
  const auto swapped = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(header[0])));
  return is_token_magic(header[0]) || is_token_magic(swapped) || other_kind(header[0]) != nullptr ||
         has_shape_of_shard(header, file.size());
}

TokenFile open(const std::filesystem::path& path) {
  const InputFile file(path, ErrorKind::kData);
  const std::string name = path.string();
  SLUICE_CHECK(file.size() >= kHeaderBytes, kData,
               "{}: {} bytes are less than the {} of a shard's header; it is cut", name, file.size(),
               kHeaderBytes);
  Header header;
  file.read_at(0, std::span<int32_t>(header));
  if (const char* kind = other_kind(header[0])) {
    SLUICE_FAIL(kData, "{}: is an llm.c {} (magic {}), not a token shard", name, kind, header[0]);
  }
  SLUICE_CHECK(
      is_token_magic(header[0]), kData,
      "{}: magic {} is that of no token shard (expected {} for uint16 or {} for uint32 tokens); the header "
      "is damaged or of another byte order",
      name, header[0], kMagic16, kMagic32);
  const bool narrow = header[0] == kMagic16;
  const int32_t version = narrow ? kVersion16 : kVersion32;
  SLUICE_CHECK(header[1] == version, kData, "{}: version {} of a shard with magic {} is unknown; expected {}",
               name, header[1], header[0], version);
  SLUICE_CHECK(header[2] > 0, kData, "{}: the header counts {} tokens; at least one is needed", name,
               header[2]);
  const TokenType type = narrow ? TokenType::kUint16 : TokenType::kUint32;
  const int64_t expected = kHeaderBytes + header[2] * size_of(type);
  SLUICE_CHECK(file.size() == expected, kData,
               "{}: {} bytes, but the header's {} tokens of {} bytes need {}; the file is {}", name,
               file.size(), header[2], size_of(type), expected,
               file.size() < expected ? "cut" : "longer than its header says");
  return TokenFile({.path = path,
                    .format = narrow ? "llm.c v1 (uint16)" : "llm.c v7 (uint32)",
                    .type = type,
                    .offset = kHeaderBytes,
                    .count = header[2],
                    .file_bytes = file.size(),
                    .document_starts = {}});
}

Header header(TokenType type, int64_t tokens) {
  SLUICE_ASSERT(type != TokenType::kInt32 && tokens > 0 && tokens <= kMaximumTokens);
  Header header{};
  header[0] = type == TokenType::kUint16 ? kMagic16 : kMagic32;
  header[1] = type == TokenType::kUint16 ? kVersion16 : kVersion32;
  header[2] = static_cast<int32_t>(tokens);
  return header;
}

}  // namespace sluice::llmc
