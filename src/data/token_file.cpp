#include "data/token_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace sluice {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are read as little-endian");

constexpr int64_t kMaximumToken = std::numeric_limits<int32_t>::max();

}  // namespace

int64_t size_of(TokenType type) { return type == TokenType::kUint16 ? 2 : 4; }

const InputFile& TokenFile::file() const {
  if (!file_) {
    InputFile opened(layout_.path, ErrorKind::kData);
    SLUICE_CHECK(
        opened.size() == layout_.file_bytes, kData,
        "{}: has {} bytes now and had {} when the run started; token files must not change under a run",
        layout_.path.string(), opened.size(), layout_.file_bytes);
    file_.emplace(std::move(opened));
  }
  return *file_;
}

void TokenFile::read(int64_t first, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  SLUICE_ASSERT(first >= 0 && count <= layout_.count - first);
  if (out.empty()) return;
  if (layout_.type == TokenType::kUint16) {
    std::array<uint16_t, 16384> narrow;
    for (int64_t done = 0; done < count; done += static_cast<int64_t>(narrow.size())) {
      const auto piece = std::span(narrow).first(
          static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(narrow.size()), count - done)));
      file().read_at(layout_.offset + (first + done) * 2, piece);
      std::copy(piece.begin(), piece.end(), out.begin() + done);
    }
    return;
  }
  file().read_at(layout_.offset + first * 4, out);
  // Unsigned values above 2^31 and negative ones both show as a sign bit.
  const auto bad = std::find_if(out.begin(), out.end(), [](int32_t token) { return token < 0; });
  SLUICE_CHECK(bad == out.end(), kData, "{}: token {} is {:#x}, which is no token id; the file is damaged",
               layout_.path.string(), first + (bad - out.begin()), static_cast<uint32_t>(*bad));
}

void TokenFile::mark_documents(int64_t first, std::span<int32_t> flags) const {
  const auto& starts = layout_.document_starts;
  const int64_t end = first + static_cast<int64_t>(flags.size());
  for (auto at = std::lower_bound(starts.begin(), starts.end(), first); at != starts.end() && *at < end;
       ++at) {
    flags[static_cast<size_t>(*at - first)] = 1;
  }
}

template <class T>
int64_t TokenFile::check_typed(int64_t vocabulary, int64_t first, int64_t count,
                               const std::function<void(int64_t)>& progress) const {
  constexpr int64_t kPiece = int64_t{1} << 19;  // a piece and its maximum stay in the second-level cache
  std::vector<T> buffer(static_cast<size_t>(std::min(kPiece, count)));
  for (int64_t done = 0; done < count; done += kPiece) {
    const auto piece = std::span(buffer).first(static_cast<size_t>(std::min(kPiece, count - done)));
    file().read_at(layout_.offset + (first + done) * static_cast<int64_t>(sizeof(T)), piece);
    T largest = 0;
    for (const T token : piece) largest = std::max(largest, token);
    if (static_cast<int64_t>(largest) >= vocabulary) {
      const auto bad = std::find_if(piece.begin(), piece.end(),
                                    [&](T token) { return static_cast<int64_t>(token) >= vocabulary; });
      SLUICE_FAIL(
          kData,
          "{}: token {} has id {}, but the vocabulary has {} ids; it was written with another tokenizer",
          layout_.path.string(), first + done + (bad - piece.begin()),
          layout_.type == TokenType::kInt32 ? int64_t{static_cast<int32_t>(*bad)} : int64_t{*bad},
          vocabulary);
    }
    if (progress) progress(std::min(done + kPiece, count));
  }
  return count;
}

int64_t TokenFile::check_vocabulary(int64_t vocabulary, int64_t first, int64_t count,
                                    const std::function<void(int64_t)>& progress) const {
  SLUICE_ASSERT(first >= 0 && count >= 0 && count <= layout_.count - first);
  if (layout_.type == TokenType::kUint16) {
    if (vocabulary > std::numeric_limits<uint16_t>::max()) return 0;
    return check_typed<uint16_t>(vocabulary, first, count, progress);
  }
  // As unsigned numbers, negative ids are too large as well.
  return check_typed<uint32_t>(std::min(vocabulary, kMaximumToken + 1), first, count, progress);
}

}  // namespace sluice
