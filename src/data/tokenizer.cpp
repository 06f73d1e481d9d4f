#include "data/tokenizer.h"

#include <algorithm>

#include "core/error.h"
#include "data/tokenizer_model.h"
#include "data/utf8.h"

namespace sluice {
namespace {

// sentencepiece writes spaces as this character, so that one in the text must pass it by.
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// Where to cut a text that is too long for one call and has no better place: between two characters.
size_t cut_between_characters(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text.size();
  return limit - utf8::incomplete_tail(text.substr(0, limit));
}

// The first line end alone, or the first word with the spaces before it, or the first space mark alone.
std::string_view first_stretch(std::string_view text) {
  if (text.front() == '\n') return text.substr(0, 1);
  if (text.starts_with(kSpaceMark)) return text.substr(0, kSpaceMark.size());
  size_t end = std::min(text.find_first_not_of(' '), text.size());
  for (; end < text.size(); ++end) {
    if (text[end] == ' ' || text[end] == '\n') break;
    if (text[end] == kSpaceMark.front() && text.substr(end).starts_with(kSpaceMark)) break;
  }
  return text.substr(0, cut_between_characters(text.substr(0, end), Tokenizer::kMaximumStretch));
}

// All of it, or the lines that fit.
std::string_view first_lines(std::string_view text) {
  if (text.size() <= Tokenizer::kMaximumStretch) return text;
  const size_t line_end = text.rfind('\n', Tokenizer::kMaximumStretch - 1);
  if (line_end != std::string_view::npos) return text.substr(0, line_end + 1);
  return text.substr(0, cut_between_characters(text, Tokenizer::kMaximumStretch));
}

}  // namespace

Tokenizer::Tokenizer(const std::filesystem::path& path) : model_(std::make_unique<const Model>(path)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  Encoder(*this).encode(text, false, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  StreamDecoder decoder(*this);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

const std::filesystem::path& Tokenizer::path() const { return model_->path; }
int64_t Tokenizer::vocabulary_size() const { return static_cast<int64_t>(model_->bytes.size()); }
int32_t Tokenizer::bos_id() const { return model_->processor.bos_id(); }
int32_t Tokenizer::eos_id() const { return model_->processor.eos_id(); }
int32_t Tokenizer::unk_id() const { return model_->processor.unk_id(); }
const std::string& Tokenizer::sha256() const { return model_->sha256; }

std::string_view Tokenizer::bytes_of(int32_t id) const {
  SLUICE_CHECK(id >= 0 && id < vocabulary_size(), kData, "token id {} is outside the vocabulary of {} of {}",
               id, vocabulary_size(), model_->path.string());
  return model_->bytes[static_cast<size_t>(id)];
}

std::string Tokenizer::piece(int32_t id) const {
  bytes_of(id);  // checks the id
  return model_->processor.IdToPiece(id);
}

Encoder::Encoder(const Tokenizer& tokenizer) : model_(tokenizer.model_.get()) {}

void Encoder::encode(std::string_view text, bool continues, std::vector<int32_t>& ids) {
  while (!text.empty()) {
    const std::string_view stretch = model_->separable ? first_stretch(text) : first_lines(text);
    encode_stretch(stretch, continues, ids);
    text.remove_prefix(stretch.size());
    continues = true;
  }
}

void Encoder::encode_stretch(std::string_view stretch, bool continues, std::vector<int32_t>& ids) {
  if (stretch == kSpaceMark && model_->separable) {
    std::array<int32_t, 3> as_bytes{};
    for (size_t i = 0; i < 3; ++i) as_bytes[i] = model_->byte_ids[static_cast<unsigned char>(stretch[i])];
    if (std::all_of(as_bytes.begin(), as_bytes.end(), [](int32_t id) { return id >= 0; })) {
      ids.insert(ids.end(), as_bytes.begin(), as_bytes.end());
      return;
    }
  }
  // The first word of a text may have a space of its own, so only what continues is remembered.
  if (!continues || !model_->separable || stretch.size() > kMaximumWordBytes) {
    model_->encode_raw(stretch, continues, ids);
    return;
  }
  auto known = words_.find(stretch);
  if (known == words_.end()) {
    if (words_.size() >= kMaximumWords) words_.clear();
    std::vector<int32_t> word;
    model_->encode_raw(stretch, true, word);
    known = words_.emplace(stretch, std::move(word)).first;
  }
  ids.insert(ids.end(), known->second.begin(), known->second.end());
}

std::string StreamDecoder::push(int32_t id) {
  SLUICE_CHECK(id >= 0 && id < static_cast<int32_t>(model_->bytes.size()), kData,
               "token id {} is outside the vocabulary of {} of {}", id, model_->bytes.size(),
               model_->path.string());
  if (id == model_->processor.bos_id()) return finish();
  std::string_view added = model_->bytes[static_cast<size_t>(id)];
  if (added.empty()) return {};
  // The space that encoding put in front; a byte token is text of its own.
  const bool whole_piece = !model_->processor.IsByte(id) && !model_->processor.IsUnknown(id);
  if (at_start_ && model_->adds_space && whole_piece && added.front() == ' ') added.remove_prefix(1);
  at_start_ = false;
  pending_ += added;
  const size_t whole = pending_.size() - utf8::incomplete_tail(pending_);
  std::string text;
  utf8::append_valid(std::string_view(pending_).substr(0, whole), text);
  pending_.erase(0, whole);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  utf8::append_valid(pending_, text);
  pending_.clear();
  at_start_ = true;
  return text;
}

}  // namespace sluice
