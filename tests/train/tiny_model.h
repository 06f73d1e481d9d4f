// Models and token streams small enough to compute everything in every way.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/token_stream.h"
#include "model/language_model.h"

namespace sluice::test {

inline constexpr const char* kTinyGla = R"({"model_type": "gla", "num_heads": 2})";
inline constexpr const char* kTinyGlaWithConvolution =
    R"({"model_type": "gla", "num_heads": 2, "use_short_conv": true, "num_kv_heads": 1})";
inline constexpr const char* kTinyTransformer = R"({"model_type": "transformer", "num_heads": 2})";
inline constexpr const char* kTinyWindowed =
    R"({"model_type": "transformer", "num_heads": 2, "window_size": 20})";
inline constexpr const char* kTinyHybrid =
    R"({"model_type": "gla", "num_heads": 2, "attn": {"layers": [1], "num_heads": 2, "window_size": 9}})";

// `json` with small sizes added: two layers of width 16, 64 positions. Weights have a deviation of
// 1 / sqrt(width), so that what a layer adds is as large as what it gets and context matters.
ModelConfig tiny_config(const std::string& json, int64_t vocabulary = 61);
std::unique_ptr<LanguageModel> tiny_model(const std::string& json, DType dtype, uint64_t seed = 1,
                                          int64_t vocabulary = 61);

// The model as a Hugging Face directory.
void write_model(const std::filesystem::path& directory, const LanguageModel& model);

// A sentencepiece model of 300 pieces and a few English words; returns the path.
std::filesystem::path write_tokenizer(const std::filesystem::path& path);

// Pseudo-random tokens below `vocabulary`.
std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary, uint64_t seed);

// Writes a token shard.
void write_shard(const std::filesystem::path& path, const std::vector<int32_t>& tokens);
// The stream of a shard written to `path`.
TokenStream token_stream(const std::filesystem::path& path, const std::vector<int32_t>& tokens);

// -log p(tokens[i + 1]) for each i, from the logits of one forward pass over all tokens but the last.
std::vector<double> losses_by_definition(const LanguageModel& model, const std::vector<int32_t>& tokens);
// Logits of every position of one forward pass, in double, [tokens][vocabulary].
std::vector<std::vector<double>> logits_of(const LanguageModel& model, const std::vector<int32_t>& tokens);

}  // namespace sluice::test
