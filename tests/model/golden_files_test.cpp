// Files that the reference implementation wrote.
#include "core/environment.h"
#include "model/raw_file.h"
#include "model/weight_directory.h"
#include "support/catch.h"
#include "support/temporary_directory.h"

using namespace sluice;

TEST_CASE("files of the reference implementation are read and written again byte for byte") {
  const std::filesystem::path golden =
      environment::text("SLUICE_GOLDEN_DIR", SLUICE_SOURCE_DIR "/tests/golden");
  const test::TemporaryDirectory directory;
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(golden)) {
    if (entry.path().extension() != ".safetensors") continue;
    INFO(entry.path().string());
    const SafetensorsFile file(entry.path());
    SafetensorsOptions options;
    options.metadata = file.metadata();
    std::vector<NamedTensor> tensors;
    for (const StoredTensor& tensor : file.tensors()) {
      const DType dtype = is_convertible_float(tensor.type) ? DType::kF32 : DType::kI32;
      tensors.push_back({tensor.name, file.load(tensor.name, dtype)});
    }
    const auto copy = directory / "copy.safetensors";
    write_safetensors(copy, tensors, options);
    CHECK(test::read_raw(copy) == test::read_raw(entry.path()));
    ++files;
  }
  CHECK(files >= 2);
}

TEST_CASE("a model directory of the reference implementation opens") {
  const std::filesystem::path golden =
      environment::text("SLUICE_GOLDEN_DIR", SLUICE_SOURCE_DIR "/tests/golden");
  const WeightDirectory weights(golden / "gla_small");
  CHECK(weights.shape("model.embeddings.weight") == std::vector<int64_t>{96, 64});
  CHECK(weights.dtype("model.norm.weight") == StoredType::kF32);
}
