// Token by token equals the whole sequence at once, on the GPU.
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/language_model.h"
#include "model/model_weights.h"
#include "support/catch.h"
#include "tiny_model.h"
#include "train/decoder.h"

using namespace sluice;

namespace {

constexpr int64_t kVocabulary = 97;

std::unique_ptr<LanguageModel> model_of(const std::string& json, DType dtype) {
  Json config = parse_json(json, "test", ErrorKind::kUsage);
  config["vocab_size"] = kVocabulary;
  config["hidden_size"] = 128;
  config["num_hidden_layers"] = 2;
  config["initializer_range"] = 0.05;
  Problems problems;
  const ModelConfig parsed = read_model_config(config, "model", UnknownKeys::kRefuse, problems);
  problems.throw_if_any("test", ErrorKind::kUsage);
  auto model = std::make_unique<LanguageModel>(parsed);
  nn::allocate(model->parameters(), dtype, Device::kCuda, false);
  model->initialize_weights(3);
  return model;
}

Tensor on_gpu(const std::vector<int32_t>& tokens) {
  return Tensor::from(Shape{static_cast<int64_t>(tokens.size())}, tokens).to(Device::kCuda);
}

double relative_rms(const std::vector<double>& actual, const std::vector<double>& expected) {
  double difference = 0, reference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    reference += expected[i] * expected[i];
  }
  return std::sqrt(difference / reference);
}

void check_decode(const std::string& json, DType dtype, int64_t steps, double tolerance) {
  const NoGradScope no_grad;
  const auto model = model_of(json, dtype);
  const auto tokens = test::random_tokens(steps, kVocabulary, 5);
  const Variable hidden = model->forward(on_gpu(tokens), ops::SequenceLayout::uniform(1, steps), nullptr);
  const auto whole = model->logits(hidden).to(Device::kCpu).to(DType::kF64);
  ModelState state = model->make_state(1);
  std::vector<double> stepped;
  // A prompt in one piece, then token by token.
  constexpr int64_t kPrompt = 37;
  for (int64_t at = 0; at < steps;) {
    const int64_t count = at == 0 ? kPrompt : 1;
    const std::vector<int32_t> part(tokens.begin() + at, tokens.begin() + at + count);
    const Variable out = model->forward(on_gpu(part), ops::SequenceLayout::uniform(1, count), &state);
    const auto logits = model->logits(out).to_vector<float>();
    stepped.insert(stepped.end(), logits.begin(), logits.end());
    at += count;
  }
  CHECK(relative_rms(stepped, whole.to_vector<double>()) < tolerance);
}

void check_models_decode(int64_t steps) {
  for (const char* json :
       {R"({"model_type": "gla", "num_heads": 2})",
        R"({"model_type": "gla", "num_heads": 2, "use_short_conv": true, "num_kv_heads": 1})",
        R"({"model_type": "transformer", "num_heads": 2})",
        R"({"model_type": "transformer", "num_heads": 2, "window_size": 50})"}) {
    INFO(json);
    check_decode(json, DType::kF32, steps, 1e-5);
    check_decode(json, DType::kBF16, steps, 2e-2);
  }
}

}  // namespace

TEST_CASE("decoding agrees with the forward pass over 70 tokens") { check_models_decode(70); }

TEST_CASE("decoding agrees with the forward pass over 1500 tokens", "[long]") { check_models_decode(1500); }

TEST_CASE("a decoder of several texts, whose steps replay a recording, agrees with the forward pass") {
  constexpr int64_t kTexts = 3, kPrompt = 9, kSteps = 200, kLength = kPrompt + kSteps;
  const NoGradScope no_grad;
  for (const char* json :
       {R"({"model_type": "gla", "num_heads": 2})",
        R"({"model_type": "gla", "num_heads": 2, "use_short_conv": true, "num_kv_heads": 1})"}) {
    INFO(json);
    const auto model = model_of(json, DType::kF32);
    const auto tokens = test::random_tokens(kTexts * kLength, kVocabulary, 6);
    const Variable hidden =
        model->forward(on_gpu(tokens), ops::SequenceLayout::uniform(kTexts, kLength), nullptr);
    const auto whole = model->logits(hidden).to(Device::kCpu).to(DType::kF64).to_vector<double>();
    Decoder decoder(*model, kTexts);
    for (int64_t at = 0; at < kLength;) {
      const int64_t count = at == 0 ? kPrompt : 1;
      std::vector<int32_t> part;
      for (int64_t text = 0; text < kTexts; ++text) {
        const auto from = tokens.begin() + text * kLength + at;
        part.insert(part.end(), from, from + count);
      }
      const auto logits = decoder.advance(part, kPrompt);
      at += count;
      std::vector<double> expected;
      for (int64_t text = 0; text < kTexts; ++text) {
        const auto from = whole.begin() + (text * kLength + at - 1) * kVocabulary;
        expected.insert(expected.end(), from, from + kVocabulary);
      }
      REQUIRE(relative_rms(logits, expected) < 2e-5);
    }
  }
}
