// What Tokenizer hides: sentencepiece's processor and tables made of it.
#pragma once

#include <sentencepiece_processor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace sluice {

struct Tokenizer::Model {
  explicit Model(const std::filesystem::path& path);

  // One call of sentencepiece. `continues` leaves out the space that some models put before every text.
  void encode_raw(std::string_view text, bool continues, std::vector<int32_t>& ids) const;

  std::filesystem::path path;
  std::string sha256;
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> bytes;       // [vocabulary] what an id stands for; empty for control tokens
  std::array<int32_t, 256> byte_ids{};  // id of each byte's token, -1 where there is none
  bool adds_space = false;              // puts a space before every text
  std::vector<int32_t> line_end;        // ids of "\n" alone, with that space where there is one
  bool separable = false;               // lines and words can be encoded one by one

 private:
  void fill_tables();
  bool pieces_keep_apart() const;
};

}  // namespace sluice
