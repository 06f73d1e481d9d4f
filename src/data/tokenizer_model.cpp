#include "data/tokenizer_model.h"

#include <charconv>

#include "core/error.h"
#include "core/file.h"
#include "core/sha256.h"

namespace sluice {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, how pieces write a space
constexpr std::string_view kUnknown = " \xE2\x81\x87 ";  // " ⁇ ", how sentencepiece prints unknown tokens

// A piece's text: its space marks made spaces.
std::string unmarked(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    const bool mark = piece.starts_with(kSpaceMark);
    text += mark ? ' ' : piece.front();
    piece.remove_prefix(mark ? kSpaceMark.size() : 1);
  }
  return text;
}

// "<0x0A>" to 10; -1 for a piece of another form.
int byte_of_piece(std::string_view piece) {
  constexpr std::string_view kBefore = "<0x";
  if (piece.size() != 6 || !piece.starts_with(kBefore) || piece.back() != '>') return -1;
  int value = -1;
  const char* const end = piece.data() + 5;
  const auto read = std::from_chars(piece.data() + kBefore.size(), end, value, 16);
  return read.ec == std::errc() && read.ptr == end ? value : -1;
}

// Why the model cannot be loaded; "" where it was. Of some damage sentencepiece says so by an exception.
std::string load(sentencepiece::SentencePieceProcessor& processor, const std::string& content) {
  try {
    const auto status = processor.LoadFromSerializedProto(content);
    if (!status.ok()) return status.ToString();
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  }
  return processor.GetPieceSize() > 0 ? "" : "it has no pieces";
}

}  // namespace

Tokenizer::Model::Model(const std::filesystem::path& model_path) : path(model_path) {
  const std::string content = read_text_file(path, ErrorKind::kData);
  const std::string problem = load(processor, content);
  SLUICE_CHECK(problem.empty(), kData, "{}: is no sentencepiece model: {}", path.string(), problem);
  sha256 = sha256_hex(std::as_bytes(std::span(content)));
  fill_tables();
}

void Tokenizer::Model::fill_tables() {
  byte_ids.fill(-1);
  const int size = processor.GetPieceSize();
  bytes.reserve(static_cast<size_t>(size));
  for (int id = 0; id < size; ++id) {
    std::string text = processor.IdToPiece(id);
    if (processor.IsByte(id)) {
      const int value = byte_of_piece(text);
      SLUICE_CHECK(value >= 0, kData, "{}: piece {} is said to be a byte, but is {}; \"<0x0A>\" is one",
                   path.string(), id, text);
      byte_ids[static_cast<size_t>(value)] = id;
      text = std::string(1, static_cast<char>(value));
    } else if (processor.IsControl(id)) {
      text.clear();
    } else if (processor.IsUnknown(id)) {
      text = kUnknown;
    } else {
      text = unmarked(text);
    }
    bytes.push_back(std::move(text));
  }
  const auto joined = [&](std::string_view text) {
    std::vector<int32_t> ids;
    encode_raw(text, false, ids);
    std::string result;
    for (const int32_t id : ids) result += bytes[static_cast<size_t>(id)];
    return result;
  };
  adds_space = joined("a") == " a";
  encode_raw("\n", false, line_end);
  const char* space = adds_space ? " " : "";
  constexpr std::string_view kProbe = "a  b\n\n c\t \xC3\xA9 ";
  separable = pieces_keep_apart() && joined("\n") == fmt::format("{}\n", space) &&
              bytes[static_cast<size_t>(line_end.back())] == "\n" &&
              joined(kProbe) == fmt::format("{}{}", space, kProbe);
}

// Whether no piece holds a space behind another character, nor a line end beside one.
bool Tokenizer::Model::pieces_keep_apart() const {
  for (size_t id = 0; id < bytes.size(); ++id) {
    if (processor.IsUnknown(static_cast<int>(id))) continue;
    const std::string& text = bytes[id];
    const size_t word = text.find_first_not_of(' ');
    if (word != std::string::npos && text.find(' ', word) != std::string::npos) return false;
    if (text.size() > 1 && text.find('\n') != std::string::npos) return false;
  }
  return true;
}

void Tokenizer::Model::encode_raw(std::string_view text, bool continues, std::vector<int32_t>& ids) const {
  // Behind a line end the model adds no space, and the ids of the line end are known.
  const bool behind_line_end = continues && adds_space && separable;
  std::string prefixed;
  if (behind_line_end) {
    prefixed.reserve(text.size() + 1);
    prefixed += '\n';
    prefixed += text;
    text = prefixed;
  }
  std::vector<int> encoded;
  const auto status = processor.Encode(absl::string_view(text.data(), text.size()), &encoded);
  SLUICE_CHECK(status.ok(), kData, "{}: cannot encode {} bytes: {}", path.string(), text.size(),
               status.message());
  const size_t skip = behind_line_end ? line_end.size() : 0;
  SLUICE_ASSERT(encoded.size() >= skip);
  ids.insert(ids.end(), encoded.begin() + static_cast<std::ptrdiff_t>(skip), encoded.end());
}

}  // namespace sluice
