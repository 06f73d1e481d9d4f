// What train writes is what flash-linear-attention and transformers write for the same model.
#include <nlohmann/json.hpp>

#include "apps/run_app.h"
#include "config/json.h"
#include "model/model_config.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "variants.h"

using namespace sluice;
using test::Golden;
namespace fs = std::filesystem;

TEST_CASE("config.json of every golden is written back byte for byte") {
  for (const fs::path& folder : test::golden_cases()) {
    INFO(folder.string());
    const Json written = to_hugging_face_json(read_model_config_file(folder / "config.json"), "float32");
    CHECK(dump_json(written) + "\n" == read_text_file(folder / "config.json", ErrorKind::kData));
  }
}

TEST_CASE("model.safetensors of every golden is written back byte for byte") {
  for (const fs::path& folder : test::golden_cases()) {
    INFO(folder.string());
    const test::TemporaryDirectory directory;
    const auto run =
        test::run_app(fmt::format("convert weights {} {}", folder.string(), (directory / "out").string()),
                      directory.path());
    INFO(run.errors);
    REQUIRE(run.exit_code == 0);
    for (const char* file : {"model.safetensors", "config.json"}) {
      CHECK(read_text_file(directory / "out" / file, ErrorKind::kData) ==
            read_text_file(folder / file, ErrorKind::kData));
    }
  }
}

TEST_CASE("a checkpoint of train has the files, names, shapes, types and metadata of the golden") {
  for (const fs::path& folder : test::golden_cases()) {
    INFO(folder.string());
    const Golden golden(folder);
    const test::TemporaryDirectory directory;
    test::write_tokens(directory / "tokens.bin", golden.tokens.to_vector<int32_t>());
    const Json config = {{"model", read_json_file(folder / "config.json", ErrorKind::kData)},
                         {"data", {{"train", (directory / "tokens.bin").string()}}},
                         {"train",
                          {{"steps", 1},
                           {"sequence_length", 16},
                           {"output_dir", (directory / "run").string()},
                           {"device", "cpu"}}},
                         {"log", {{"progress", "off"}, {"tensorboard", false}}}};
    write_file_atomically(directory / "run.json", dump_json(config), ErrorKind::kData);
    const auto run = test::run_app("train --config " + (directory / "run.json").string(), directory.path());
    INFO(run.output << run.errors);
    REQUIRE(run.exit_code == 0);
    const fs::path checkpoint = directory / "run" / "checkpoints" / "step_00000001";
    CHECK(read_text_file(checkpoint / "config.json", ErrorKind::kData) ==
          read_text_file(folder / "config.json", ErrorKind::kData));
    CHECK(read_json_file(checkpoint / "generation_config.json", ErrorKind::kData) ==
          Json({{"_from_model_config", true}, {"bos_token_id", 1}, {"eos_token_id", 2}}));
    const SafetensorsFile written(checkpoint / "model.safetensors"), expected(folder / "model.safetensors");
    CHECK(written.metadata() == expected.metadata());
    REQUIRE(written.tensors().size() == expected.tensors().size());
    for (size_t i = 0; i < written.tensors().size(); ++i) {
      const StoredTensor &ours = written.tensors()[i], &theirs = expected.tensors()[i];
      INFO(theirs.name);
      CHECK(ours.name == theirs.name);
      CHECK(ours.type == theirs.type);
      CHECK(ours.shape == theirs.shape);
      CHECK(ours.begin == theirs.begin);
    }
  }
}
