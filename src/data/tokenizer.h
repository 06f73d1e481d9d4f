// Text to token ids and back, with models of sentencepiece.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice {

// Immutable once loaded; every method may be called from any thread.
//
// Long texts are cut before they reach sentencepiece, whose time for one call grows faster than the text: at
// line ends, and before the space in front of a word. Where the model's pieces never reach across those
// places, which is checked against its whole vocabulary when it is loaded, the ids are those of the uncut
// text (for unigram models up to rounding between segmentations of equal score). Stretches of more than
// kMaximumStretch bytes without such a place are cut between two characters. Models whose pieces do reach
// across, or which rewrite white space, are cut at line ends alone and only beyond kMaximumStretch bytes.
class Tokenizer {
 public:
  static constexpr size_t kMaximumStretch = 16384;

  // Error(kData) naming the file when it is missing or no sentencepiece model.
  explicit Tokenizer(const std::filesystem::path& path);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // No ids are added around the text. Invalid UTF-8 counts as U+FFFD.
  std::vector<int32_t> encode(std::string_view text) const;
  // Control tokens (bos, eos) give nothing; bytes that make no character give U+FFFD. Error(kData) on an id
  // outside the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;

  const std::filesystem::path& path() const;
  int64_t vocabulary_size() const;
  // -1 where the model has none.
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t unk_id() const;
  const std::string& sha256() const;  // of the model file
  // What an id stands for inside a text, maybe half a character: " the", "\n", "\xE4".
  std::string_view bytes_of(int32_t id) const;
  // As the model spells it, for tables: "▁the", "<0x0A>", "<s>".
  std::string piece(int32_t id) const;

 private:
  friend class Encoder;
  friend class StreamDecoder;
  struct Model;
  std::unique_ptr<const Model> model_;
};

// Encodes much text: remembers the ids of words, so a word costs a look-up when it comes again. One per
// thread; the ids are the same as Tokenizer::encode gives. The tokenizer must outlive it.
class Encoder {
 public:
  explicit Encoder(const Tokenizer& tokenizer);

  // Appends the ids of `text`. `continues`: the text goes on from the one before, which ended at a line end
  // or in front of the space of a word.
  void encode(std::string_view text, bool continues, std::vector<int32_t>& ids);

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  static constexpr size_t kMaximumWords = size_t{1} << 18;
  static constexpr size_t kMaximumWordBytes = 48;

  void encode_stretch(std::string_view stretch, bool continues, std::vector<int32_t>& ids);

  const Tokenizer::Model* model_;
  std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words_;
};

// Ids to text one by one, for printing while they are generated: never half a character. The tokenizer must
// outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : model_(tokenizer.model_.get()) {}

  // The text that became whole with this id. All of them and finish() together are Tokenizer::decode of the
  // ids. bos begins a new text.
  std::string push(int32_t id);
  // What is left, as U+FFFD, and back to the start of a text.
  std::string finish();

 private:
  const Tokenizer::Model* model_;
  std::string pending_;   // the beginning of a character
  bool at_start_ = true;  // nothing came yet
};

}  // namespace sluice
