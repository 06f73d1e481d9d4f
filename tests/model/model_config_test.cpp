#include "model/model_config.h"

#include <nlohmann/json.hpp>

#include "support/catch.h"

using namespace sluice;

namespace {

std::string problems_of(const std::string& text, UnknownKeys unknown = UnknownKeys::kRefuse) {
  const Json json = parse_json(text, "test", ErrorKind::kUsage);
  Problems problems;
  read_model_config(json, "model", unknown, problems);
  try {
    problems.throw_if_any("run.json", ErrorKind::kUsage);
  } catch (const Error& error) {
    CHECK(error.exit_code() == 2);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("defaults are flash-linear-attention's") {
  const Json json = {{"model_type", "gla"}};
  Problems problems;
  const ModelConfig config = read_model_config(json, "", UnknownKeys::kRefuse, problems);
  CHECK(problems.empty());
  CHECK(config.hidden_size == 2048);
  CHECK(config.mlp_width() == 5632);
  CHECK(config.bos_token_id == 1);
  CHECK(config.architecture == "GLAForCausalLM");
  const Json written = to_hugging_face_json(config, "float32");
  CHECK(written["expand_k"] == 0.5);
  CHECK(written["num_kv_heads"].is_null());
  CHECK(written["fuse_norm"] == true);
}

TEST_CASE("the derived width of the feed-forward layer is the paper's") {
  ModelConfig config;
  config.hidden_size = 1024;
  CHECK(config.mlp_width() == 2816);
}

TEST_CASE("what is written reads back to the same model") {
  for (
      const char* text :
      {R"({"model_type":"gla","num_heads":8,"num_kv_heads":2,"feature_map":"relu","clamp_min":-0.5,"use_short_conv":true,
            "attn":{"layers":[1,3],"num_heads":4,"window_size":64},"tie_word_embeddings":true,"fuse_norm":false})",
       R"({"model_type":"transformer","num_heads":16,"num_kv_heads":4,"qkv_bias":true,"qk_norm":true,"window_size":128})"}) {
    Problems problems;
    const Json first = to_hugging_face_json(
        read_model_config(parse_json(text, "t", ErrorKind::kUsage), "", UnknownKeys::kRefuse, problems),
        "float32");
    const Json second =
        to_hugging_face_json(read_model_config(first, "", UnknownKeys::kRefuse, problems), "float32");
    CHECK(problems.empty());
    CHECK(first == second);
  }
}

TEST_CASE("everything wrong with a model is told at once, by key") {
  const std::string text = problems_of(
      R"({"model_type":"gla","hidden_sise":64,"num_heads":3,"vocab_size":3000000000,"hidden_act":"relu","use_gv":true})");
  CHECK_THAT(text, test::contains("model.hidden_sise"));
  CHECK_THAT(text, test::contains("hidden_size"));
  CHECK_THAT(text, test::contains(
                       "model.num_heads: the key width hidden_size * expand_k = 1024 is not divisible by 3"));
  CHECK_THAT(text, test::contains("model.vocab_size"));
  CHECK_THAT(text, test::contains("model.hidden_act: \"relu\" is not supported"));
  CHECK_THAT(text, test::contains("model.use_gv"));
}

TEST_CASE("a family that is not known, and fields it cannot have") {
  CHECK_THAT(problems_of(R"({"model_type":"rwkv"})"),
             test::contains("\"rwkv\" is not known; known are: gla, transformer"));
  CHECK_THAT(problems_of(R"({"model_type":""})"), test::contains("\"\" is not known"));
  CHECK_THAT(problems_of(R"({"hidden_size":64})"), test::contains("model_type: required, but missing"));
  CHECK_THAT(problems_of(R"({"model_type":"transformer","expand_k":0.5})"), test::contains("model.expand_k"));
  CHECK_THAT(problems_of(R"({"model_type":"transformer","hidden_size":100,"num_heads":3})"),
             test::contains("hidden_size 100 is not divisible by num_heads 3"));
  CHECK_THAT(problems_of(R"({"model_type":"transformer","hidden_size":99,"num_heads":3})"),
             test::contains("even head size"));
  CHECK_THAT(problems_of(R"({"model_type":"gla","use_l2warp":true})"), test::contains("model.use_l2warp"));
  CHECK_THAT(problems_of(R"({"model_type":"gla","eos_token_id":32000})"),
             test::contains("outside the vocabulary of 32000"));
  CHECK_THAT(problems_of(R"({"model_type":"gla","feature_map":"sin"})"), test::contains("model.feature_map"));
  CHECK_THAT(problems_of(R"({"model_type":"gla","attn":{"layers":[24],"num_heads":8}})"),
             test::contains("0 to 23"));
  CHECK_THAT(problems_of(R"({"model_type":"gla","attn":{"layers":[1]}})"),
             test::contains("model.attn.num_heads"));
}

TEST_CASE("directories of other programs may hold keys we do not know") {
  const char* text = R"({"model_type":"gla","something_new":1,"norm_eps":{"__float__":"Infinity"}})";
  CHECK_THAT(problems_of(text, UnknownKeys::kIgnore), test::contains("norm_eps"));
  CHECK(problems_of(R"({"model_type":"gla","something_new":1})", UnknownKeys::kIgnore).empty());
}
