#include "model/language_model.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/backward.h"
#include "core/error.h"
#include "model/model_weights.h"
#include "model/weight_directory.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

ModelConfig config_of(const std::string& text) {
  Problems problems;
  const Json json = parse_json(text, "test", ErrorKind::kUsage);
  const ModelConfig config = read_model_config(json, "", UnknownKeys::kRefuse, problems);
  problems.throw_if_any("test", ErrorKind::kUsage);
  return config;
}

std::unique_ptr<LanguageModel> make(const std::string& text, DType dtype, bool trained = true) {
  auto model = std::make_unique<LanguageModel>(config_of(text));
  nn::allocate(model->parameters(), dtype, Device::kCpu, trained);
  model->initialize_weights(5);
  return model;
}

constexpr const char* kGla =
    R"({"model_type":"gla","vocab_size":31,"hidden_size":16,"num_hidden_layers":3,"num_heads":2,
  "intermediate_size":24,"use_short_conv":true,"initializer_range":0.2})";
constexpr const char* kHybrid =
    R"({"model_type":"gla","vocab_size":31,"hidden_size":16,"num_hidden_layers":3,"num_heads":2,
  "intermediate_size":24,"initializer_range":0.2,"tie_word_embeddings":true,"attn":{"layers":[1],"num_heads":2}})";

std::vector<float> gradients_of(const LanguageModel& model) {
  std::vector<float> all;
  for (const nn::Parameter* parameter : model.parameters()) {
    const auto part = parameter->variable().gradient().to_vector<float>();
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace

TEST_CASE("parameter counts are the published ones") {
  const auto count = [](const char* text) { return LanguageModel(config_of(text)).parameter_count(); };
  CHECK(count(R"({"model_type":"gla","hidden_size":1024})") == 374475776);
  CHECK(count(R"({"model_type":"gla"})") == 1365514240);
}

TEST_CASE("recomputing layers gives the same bits, with and without a carried state") {
  for (const char* text : {kGla, kHybrid}) {
    const bool carry = text == kGla;
    const Tensor tokens = test::random_integers({2 * 9}, 1, 0, 31),
                 labels = test::random_integers({2 * 9}, 2, 0, 31);
    std::vector<float> results[2];
    for (const bool recompute : {false, true}) {
      const auto model = make(text, DType::kF32);
      ModelState state;
      if (carry) state = model->make_state(2);
      for (int segment = 0; segment < 2; ++segment) {
        const Variable hidden =
            model->forward(tokens, ops::SequenceLayout::uniform(2, 9), carry ? &state : nullptr, recompute);
        backward(model->loss(hidden, labels));
        state.detach();
      }
      results[recompute] = gradients_of(*model);
    }
    CHECK(results[0] == results[1]);
  }
}

TEST_CASE("a tied projection gets the gradients of both uses and one name") {
  const auto model = make(kHybrid, DType::kF32);
  for (const NamedTensor& tensor : named_weights(*model)) CHECK(tensor.name != "lm_head.weight");
  const Tensor tokens = Tensor::from<int32_t>({3}, {1, 2, 3}), labels = Tensor::from<int32_t>({3}, {4, 5, 6});
  backward(model->loss(model->forward(tokens, ops::SequenceLayout::uniform(1, 3), nullptr), labels));
  const Tensor gradient = model->parameters()[0]->variable().gradient();
  const auto row_is_zero = [&](int64_t row) {
    for (const float value : gradient.narrow(0, row, 1).to_vector<float>()) {
      if (value != 0) return false;
    }
    return true;
  };
  CHECK_FALSE(row_is_zero(1));   // as an input
  CHECK_FALSE(row_is_zero(30));  // as an output only
}

TEST_CASE("the initial loss is near the logarithm of the vocabulary") {
  const auto model =
      make(R"({"model_type":"gla","vocab_size":997,"hidden_size":32,"num_hidden_layers":2,"num_heads":2})",
           DType::kF32);
  const Tensor tokens = test::random_integers({64}, 1, 0, 997),
               labels = test::random_integers({64}, 2, 0, 997);
  const Variable loss =
      model->loss(model->forward(tokens, ops::SequenceLayout::uniform(1, 64), nullptr), labels);
  CHECK(std::abs(loss.value().item() - std::log(997.0)) < 0.1);
}

TEST_CASE("loading lists every tensor that is missing, superfluous or of another shape") {
  const test::TemporaryDirectory directory;
  const auto model = make(kGla, DType::kF32, false);
  auto tensors = named_weights(*model);
  tensors[0].tensor = test::random_normal({30, 16}, DType::kF32, 1);
  const std::string dropped = tensors[3].name;
  tensors.erase(tensors.begin() + 3);
  tensors.push_back({"extra.weight", test::random_normal({2}, DType::kF32, 1)});
  write_sharded(directory.path(), tensors, int64_t{1} << 40);
  try {
    load_weights(*model, WeightDirectory(directory.path()));
    FAIL("loaded a checkpoint of another shape");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    CHECK_THAT(std::string(error.what()),
               test::contains("model.embeddings.weight: has shape [30, 16], the model needs [31, 16]"));
    CHECK_THAT(std::string(error.what()), test::contains(dropped + ": is missing"));
    CHECK_THAT(std::string(error.what()), test::contains("extra.weight: is not a tensor of this model"));
  }
}

TEST_CASE("the older layout of the feed-forward layer is read, gate rows first") {
  const test::TemporaryDirectory directory;
  const auto model = make(kGla, DType::kF32, false), other = make(kGla, DType::kF32, false);
  std::vector<NamedTensor> tensors;
  for (const nn::Parameter* parameter : model->parameters()) {
    const bool merged =
        parameter->parts().size() == 2 && parameter->parts()[1].name.find("up_proj") != std::string::npos;
    if (merged) tensors.push_back({parameter->parts()[0].name, parameter->variable().value()});
    for (const nn::CheckpointPart& part : parameter->parts()) {
      if (!merged) tensors.push_back({part.name, parameter->part_of(parameter->variable().value(), part)});
    }
  }
  write_sharded(directory.path(), tensors, int64_t{1} << 40);
  other->initialize_weights(99);
  load_weights(*other, WeightDirectory(directory.path()));
  for (size_t i = 0; i < model->parameters().size(); ++i) {
    CHECK(model->parameters()[i]->variable().value().to_vector<float>() ==
          other->parameters()[i]->variable().value().to_vector<float>());
  }
}

TEST_CASE("documents packed into rows train like documents alone") {
  const std::vector<int32_t> starts = {1, 0, 0, 1, 0, 0, 0, 0, /* row 2 */ 0, 0, 0, 0, 0, 1, 1, 0};
  const auto layout = ops::SequenceLayout::cut_at(2, 8, starts);
  const Tensor tokens = test::random_integers({16}, 3, 0, 31), labels = test::random_integers({16}, 4, 0, 31);
  for (const char* text : {kGla, kHybrid}) {
    const auto packed = make(text, DType::kF64), separate = make(text, DType::kF64);
    backward(packed->loss(packed->forward(tokens, layout, nullptr), labels, {-100, 16}));
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 3}, {3, 5}, {8, 5}, {13, 1}, {14, 2}}) {
      const Variable hidden = separate->forward(tokens.narrow(0, first, count).clone(),
                                                ops::SequenceLayout::uniform(1, count), nullptr);
      backward(separate->loss(hidden, labels.narrow(0, first, count).clone(), {-100, 16}));
    }
    for (size_t i = 0; i < packed->parameters().size(); ++i) {
      CHECK_CLOSE(packed->parameters()[i]->variable().gradient(),
                  separate->parameters()[i]->variable().gradient(), 1e-11, 1e-9);
    }
  }
}
