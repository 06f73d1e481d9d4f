#include "tiny_model.h"

#include <omp.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/file.h"
#include "core/random.h"
#include "data/llmc_shard.h"
#include "data/train_tokenizer.h"
#include "model/model_weights.h"
#include "model/safetensors.h"

namespace sluice::test {

ModelConfig tiny_config(const std::string& json, int64_t vocabulary) {
  Json config = parse_json(json, "test", ErrorKind::kUsage);
  config["vocab_size"] = vocabulary;
  config["hidden_size"] = 16;
  config["num_hidden_layers"] = 2;
  config["intermediate_size"] = 24;
  config["max_position_embeddings"] = 64;
  config["initializer_range"] = 0.25;
  Problems problems;
  ModelConfig result = read_model_config(config, "model", UnknownKeys::kRefuse, problems);
  problems.throw_if_any("test", ErrorKind::kUsage);
  return result;
}

std::unique_ptr<LanguageModel> tiny_model(const std::string& json, DType dtype, uint64_t seed,
                                          int64_t vocabulary) {
  omp_set_num_threads(1);  // passes of microseconds: more threads would mostly wait for each other
  auto model = std::make_unique<LanguageModel>(tiny_config(json, vocabulary));
  nn::allocate(model->parameters(), dtype, Device::kCpu, false);
  model->initialize_weights(seed);
  return model;
}

void write_model(const std::filesystem::path& directory, const LanguageModel& model) {
  write_file_atomically(directory / "config.json", dump_json(to_hugging_face_json(model.config(), "float32")),
                        ErrorKind::kCheckpoint);
  write_safetensors(directory / "model.safetensors", named_weights(model));
}

std::filesystem::path write_tokenizer(const std::filesystem::path& path) {
  TokenizerTraining training;
  training.vocabulary_size = 300;
  bool more = true;
  const std::string content = train_tokenizer(training, [&](std::string& text) {
    text = "the cat sat on the mat and the dog ran after the cat\nthe dog sat, and the cat ran\n";
    return std::exchange(more, false);
  });
  write_file_atomically(path, content, ErrorKind::kData);
  return path;
}

std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary, uint64_t seed) {
  const Philox random(seed, 99);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(
        static_cast<int32_t>(random.bits64(static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocabulary)));
  }
  return tokens;
}

void write_shard(const std::filesystem::path& path, const std::vector<int32_t>& tokens) {
  const auto header = llmc::header(TokenType::kUint32, static_cast<int64_t>(tokens.size()));
  OutputFile file(path, ErrorKind::kData);
  file.write(std::as_bytes(std::span(header)));
  file.write(std::as_bytes(std::span(tokens)));
  file.close();
}

TokenStream token_stream(const std::filesystem::path& path, const std::vector<int32_t>& tokens) {
  write_shard(path, tokens);
  return TokenStream(std::vector{path});
}

std::vector<std::vector<double>> logits_of(const LanguageModel& model, const std::vector<int32_t>& tokens) {
  const NoGradScope no_grad;
  const auto count = static_cast<int64_t>(tokens.size());
  const Variable hidden =
      model.forward(Tensor::from({count}, tokens), ops::SequenceLayout::uniform(1, count), nullptr);
  const auto flat = model.logits(hidden).to(DType::kF64).to_vector<double>();
  std::vector<std::vector<double>> rows;
  const int64_t vocabulary = model.config().vocab_size;
  for (int64_t i = 0; i < count; ++i) {
    rows.emplace_back(flat.begin() + i * vocabulary, flat.begin() + (i + 1) * vocabulary);
  }
  return rows;
}

std::vector<double> losses_by_definition(const LanguageModel& model, const std::vector<int32_t>& tokens) {
  const auto logits = logits_of(model, {tokens.begin(), tokens.end() - 1});
  std::vector<double> losses;
  for (size_t i = 0; i < logits.size(); ++i) {
    double sum = 0;
    for (const double logit : logits[i]) sum += std::exp(logit);
    losses.push_back(std::log(sum) - logits[i][static_cast<size_t>(tokens[i + 1])]);
  }
  return losses;
}

}  // namespace sluice::test
