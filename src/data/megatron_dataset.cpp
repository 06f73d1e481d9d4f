#include "data/megatron_dataset.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace sluice::megatron {
namespace {

constexpr std::string_view kMagic("MMIDIDX\0\0", 9);
constexpr int64_t kHeaderBytes = 34;

// Fields stand at odd bytes, so every one is copied out.
template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// Walks an array of the index in pieces of bounded size; element i is at byte offset + i * sizeof(T).
template <class T>
class ArrayReader {
 public:
  ArrayReader(const InputFile& file, int64_t offset, int64_t count)
      : file_(file), offset_(offset), count_(count) {}

  T operator[](int64_t index) {
    if (index < first_ || index >= first_ + static_cast<int64_t>(piece_.size() / sizeof(T))) fetch(index);
    return load<T>(piece_.data() + (index - first_) * static_cast<int64_t>(sizeof(T)));
  }

 private:
  void fetch(int64_t index) {
    constexpr int64_t kPiece = 1 << 16;
    first_ = index;
    piece_.resize(static_cast<size_t>(std::min(kPiece, count_ - index)) * sizeof(T));
    file_.read_at(offset_ + index * static_cast<int64_t>(sizeof(T)), std::span<std::byte>(piece_));
  }

  const InputFile& file_;
  int64_t offset_, count_;
  int64_t first_ = 0;
  std::vector<std::byte> piece_;
};

TokenType token_type(int dtype, const std::string& name) {
  switch (dtype) {
    case 4:
      return TokenType::kInt32;
    case 8:
      return TokenType::kUint16;
    default:
      SLUICE_FAIL(kData, "{}: token type {} is not read; 4 (int32) and 8 (uint16) are", name, dtype);
  }
}

}  // namespace

std::filesystem::path index_path(const std::filesystem::path& bin) {
  return std::filesystem::path(bin).replace_extension(".idx");
}

TokenFile open(const std::filesystem::path& bin) {
  const InputFile tokens(bin, ErrorKind::kData);
  const InputFile index(index_path(bin), ErrorKind::kData);
  const std::string name = index.path().string();
  SLUICE_CHECK(index.size() >= kHeaderBytes, kData,
               "{}: {} bytes are less than the {} of the header; it is cut", name, index.size(),
               kHeaderBytes);
  std::array<std::byte, kHeaderBytes> header;
  index.read_at(0, std::span<std::byte>(header));
  SLUICE_CHECK(std::memcmp(header.data(), kMagic.data(), kMagic.size()) == 0, kData,
               "{}: wrong magic; a Megatron index begins with MMIDIDX and two zero bytes", name);
  const auto version = load<uint64_t>(&header[9]);
  SLUICE_CHECK(version == 1, kData, "{}: index version {} is unknown; expected 1", name, version);
  const TokenType type = token_type(std::to_integer<int>(header[17]), name);
  const auto sequences_word = load<uint64_t>(&header[18]), bounds_word = load<uint64_t>(&header[26]);
  // Both are below the size of the file, so the sums below cannot overflow.
  const auto limit = static_cast<uint64_t>(index.size());
  SLUICE_CHECK(sequences_word >= 1 && sequences_word < limit && bounds_word >= 2 && bounds_word < limit,
               kData, "{}: the header counts {} sequences and {} document bounds, which {} bytes cannot hold",
               name, sequences_word, bounds_word, index.size());
  const auto sequences = static_cast<int64_t>(sequences_word), bounds = static_cast<int64_t>(bounds_word);
  const int64_t expected = kHeaderBytes + 12 * sequences + 8 * bounds;
  SLUICE_CHECK(index.size() == expected || index.size() == expected + sequences, kData,
               "{}: {} bytes, but {} sequences and {} document bounds need {} (or {} with modes)", name,
               index.size(), sequences, bounds, expected, expected + sequences);

  ArrayReader<int32_t> lengths(index, kHeaderBytes, sequences);
  ArrayReader<int64_t> pointers(index, kHeaderBytes + 4 * sequences, sequences);
  ArrayReader<int64_t> documents(index, kHeaderBytes + 12 * sequences, bounds);
  SLUICE_CHECK(documents[0] == 0, kData, "{}: the first document begins at sequence {}, not 0", name,
               documents[0]);
  TokenLayout layout{.path = bin,
                     .format = type == TokenType::kUint16 ? "Megatron (uint16)" : "Megatron (int32)",
                     .type = type,
                     .offset = 0,
                     .count = 0,
                     .file_bytes = tokens.size(),
                     .document_starts = {}};
  layout.document_starts.reserve(static_cast<size_t>(bounds - 1));
  int64_t position = 0, document = 0;
  for (int64_t sequence = 0; sequence < sequences; ++sequence) {
    // Documents without a sequence share their start with the next one; it is kept once.
    bool begins = false;
    for (; document + 1 < bounds && documents[document] == sequence; ++document) begins = true;
    SLUICE_CHECK(document + 1 >= bounds || documents[document] > sequence, kData,
                 "{}: document bound {} is sequence {}, before the one in front of it", name, document,
                 documents[document]);
    const int32_t length = lengths[sequence];
    SLUICE_CHECK(length >= 0, kData, "{}: sequence {} has length {}", name, sequence, length);
    SLUICE_CHECK(pointers[sequence] == position * size_of(type), kData,
                 "{}: sequence {} begins at byte {} of the tokens; the lengths before it put it at {}", name,
                 sequence, pointers[sequence], position * size_of(type));
    if (begins && (layout.document_starts.empty() || layout.document_starts.back() < position)) {
      layout.document_starts.push_back(position);
    }
    position += length;
  }
  // Trailing documents may be empty; whatever else is left does not end where the sequences do.
  for (; document < bounds; ++document) {
    SLUICE_CHECK(documents[document] == sequences, kData,
                 "{}: document bound {} is sequence {}, but there are {} sequences", name, document,
                 documents[document], sequences);
  }
  SLUICE_CHECK(position > 0, kData, "{}: holds no tokens", name);
  SLUICE_CHECK(position * size_of(type) == tokens.size(), kData,
               "{}: {} bytes, but its index {} counts {} tokens of {}", bin.string(), tokens.size(), name,
               position, size_of(type));
  // An empty document at the very end begins where no token is.
  if (layout.document_starts.back() == position) layout.document_starts.pop_back();
  layout.count = position;
  return TokenFile(std::move(layout));
}

}  // namespace sluice::megatron
