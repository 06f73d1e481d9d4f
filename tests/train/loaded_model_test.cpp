#include "train/loaded_model.h"

#include "core/file.h"
#include "model/model_weights.h"
#include "model/safetensors.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"

using namespace sluice;

TEST_CASE("a Hugging Face directory becomes a model that computes the same") {
  const test::TemporaryDirectory directory;
  const auto original = test::tiny_model(test::kTinyGlaWithConvolution, DType::kF32);
  test::write_model(directory.path(), *original);
  const LoadedModel loaded = load_model(directory.path(), DType::kF32, Device::kCpu);
  CHECK(loaded.directory == directory.path());
  CHECK(!loaded.tokenizer);
  const auto tokens = test::random_tokens(30, 61, 2);
  CHECK(test::logits_of(*loaded.model, tokens) == test::logits_of(*original, tokens));
  CHECK(load_model(directory.path(), DType::kF64, Device::kCpu).model->dtype() == DType::kF64);

  write_file_atomically(directory / "tokenizer.model", "x", ErrorKind::kData);
  CHECK(load_model(directory.path(), DType::kF32, Device::kCpu).tokenizer == directory / "tokenizer.model");
}

TEST_CASE("a path without a model is a checkpoint error") {
  const test::TemporaryDirectory directory;
  for (const auto& path : {directory.path(), directory / "missing"}) {
    try {
      load_model(path, DType::kF32, Device::kCpu);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.exit_code() == 4);
      CHECK_THAT(error.what(), test::contains(path.string()));
    }
  }
}

TEST_CASE("devices and compute types by name") {
  CHECK(parse_device("cpu") == Device::kCpu);
  CHECK_THROWS_WITH(parse_device("tpu"), test::contains("auto, cpu, cuda"));
  CHECK(parse_compute_dtype("float64", Device::kCpu) == DType::kF64);
  CHECK_THROWS_WITH(parse_compute_dtype("bfloat16", Device::kCpu), test::contains("needs a GPU"));
  CHECK_THROWS_WITH(parse_compute_dtype("i32", Device::kCpu), test::contains("no type to compute in"));
  CHECK_THROWS_WITH(parse_compute_dtype("half", Device::kCpu), test::contains("half"));
}
