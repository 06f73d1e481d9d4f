// Trains a sentencepiece model.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace sluice {

struct TokenizerTraining {
  std::string model = "bpe";           // or "unigram"
  int64_t vocabulary_size = 32000;     // unk, bos, eos and 256 bytes included
  double character_coverage = 0.9995;  // share of the text's characters that get a piece; the rest is bytes
  int64_t maximum_lines = 2'000'000;   // more are sampled evenly
  uint32_t seed = 0;                   // of that sample
  int threads = 1;                     // changes the rounding of unigram models
};

// `next_text` gives a stretch of text at a time and false at the end. Returns the model file's content.
// Ids 0, 1, 2 are <unk>, <s> (bos), </s>; 3 is the line end, always a token of its own. Nothing is normalised
// and unseen characters become bytes, so that decoding gives back every text to the byte. Error(kUsage) for
// options out of range; Error(kData) when there is too little text for the vocabulary.
std::string train_tokenizer(const TokenizerTraining& training,
                            const std::function<bool(std::string& text)>& next_text);

}  // namespace sluice
