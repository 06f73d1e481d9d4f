#include "model/weight_directory.h"

#include "core/log.h"
#include "core/sha256.h"
#include "model/raw_file.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

using Tensors = std::vector<NamedTensor>;

Tensors four_tensors() {
  return {{"a", test::random_normal({10, 10}, DType::kF32, 1)},  // 400 bytes
          {"b", test::random_normal({10, 10}, DType::kF32, 2)},  // 400
          {"c", test::random_normal({300}, DType::kF32, 3)},     // 1200, above the limit below
          {"d", test::random_normal({20}, DType::kF32, 4)}};     // 80
}

std::string error_of(const std::filesystem::path& path) {
  try {
    const WeightDirectory directory(path);
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    return error.what();
  }
  return "no error";
}

const std::filesystem::path kIndex = "model.safetensors.index.json";
const std::string kFirst = "model-00001-of-00003.safetensors";

}  // namespace

TEST_CASE("weights that fit go into one file") {
  const test::TemporaryDirectory directory;
  const auto tensors = four_tensors();
  const auto written = write_sharded(directory.path(), tensors, 2080);
  REQUIRE(written.size() == 1);
  CHECK(written[0].name == "model.safetensors");
  const WeightDirectory weights(directory.path());
  CHECK(weights.names() == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(weights.shape("c") == std::vector<int64_t>{300});
  CHECK(weights.dtype("c") == StoredType::kF32);
  CHECK_FALSE(weights.has("e"));
  CHECK_THROWS_WITH(weights.load("e", DType::kF32), test::contains("holds no tensor e"));
  // The file itself will do as well.
  CHECK(WeightDirectory(directory / "model.safetensors").has("d"));
}

TEST_CASE("weights that do not fit are sharded and read back") {
  const test::TemporaryDirectory directory;
  const auto tensors = four_tensors();
  const auto written = write_sharded(directory.path(), tensors, 1000);
  REQUIRE(written.size() == 4);
  CHECK(written[0].name == kFirst);
  CHECK(written[3].name == kIndex);
  for (const WrittenFile& file : written) {
    CHECK(file.bytes == static_cast<int64_t>(std::filesystem::file_size(directory / file.name)));
    CHECK(file.sha256 == sha256_file(directory / file.name, ErrorKind::kData));
  }
  CHECK(test::read_raw(directory / kIndex) == R"({
  "metadata": {
    "total_size": 2080
  },
  "weight_map": {
    "a": "model-00001-of-00003.safetensors",
    "b": "model-00001-of-00003.safetensors",
    "c": "model-00002-of-00003.safetensors",
    "d": "model-00003-of-00003.safetensors"
  }
}
)");
  const WeightDirectory weights(directory.path());
  CHECK(weights.files().size() == 3);
  for (const NamedTensor& named : tensors) {
    CHECK_CLOSE(weights.load(named.name, DType::kF32), named.tensor, 0, 0);
  }
  const Tensor target = Tensor::zeros({10, 30}, DType::kF64, Device::kCpu);
  weights.load_into("b", target.columns(10, 10));
  CHECK_CLOSE(target.columns(10, 10), tensors[1].tensor.to(DType::kF64), 0, 0);
}

TEST_CASE("weights are not written over or beside others") {
  const test::TemporaryDirectory directory;
  write_sharded(directory.path(), four_tensors(), 1000);
  CHECK_THROWS_WITH(write_sharded(directory.path(), four_tensors(), 5000), test::contains("already"));
  CHECK_THROWS_WITH(write_sharded(directory / "missing", four_tensors(), 5000),
                    test::contains("cannot list the directory"));
  CHECK_THROWS_AS(write_sharded(directory.path(), four_tensors(), 0), Error);
}

TEST_CASE("directories without weights say what is missing") {
  const test::TemporaryDirectory directory;
  CHECK_THAT(error_of(directory / "none"), test::contains("/none: there is no such file or directory"));
  CHECK_THAT(error_of(directory.path()), test::contains("holds neither model.safetensors nor"));
  test::write_raw(directory / "pytorch_model.bin", "x");
  CHECK_THAT(error_of(directory.path()), test::contains("pytorch_model.bin is not read"));
}

TEST_CASE("an index must agree with its shards") {
  const test::TemporaryDirectory directory;
  write_sharded(directory.path(), four_tensors(), 1000);
  const std::string good = test::read_raw(directory / kIndex);
  const auto with_index = [&](const std::string& text) {
    test::write_raw(directory / kIndex, text);
    return error_of(directory.path());
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return with_index(text.replace(at, from.size(), to));
  };
  CHECK_THAT(with_index("[]"), test::contains("array where an object is needed"));
  CHECK_THAT(with_index("{}"), test::contains("weight_map"));
  CHECK_THAT(with_index(R"({"weight_map":[]})"), test::contains("weight_map"));
  CHECK_THAT(with_index(R"({"weight_map":{}})"), test::contains("weight_map is empty"));
  CHECK_THAT(with_index(R"({"weight_map":{"a":1}})"), test::contains("weight_map.a: number where"));
  CHECK_THAT(with_index("{"), test::contains("line 1, column"));
  for (const char* name : {"", ".", "..", "../x", "/etc/passwd", "a/b", "a\\\\b", "a\\u0000b"}) {
    CHECK_THAT(with_index(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name)),
               test::contains("is no plain file name"));
  }
  CHECK_THAT(replaced("\"a\": \"model-00001-of-00003", "\"a\": \"model-00004-of-00003"),
             test::contains("names model-00004-of-00003.safetensors, which is not there"));
  CHECK_THAT(replaced("\"a\": \"model-00001", "\"a\": \"model-00002"),
             test::contains("tensor a should be in model-00002-of-00003.safetensors, but is in " + kFirst));
  CHECK_THAT(replaced("\"a\":", "\"missing\":"), test::contains("tensor missing should be in"));
  CHECK_THAT(replaced("\"a\": \"model-00001-of-00003.safetensors\",", ""),
             test::contains("tensor a is not in the index"));
  CHECK_THAT(replaced("\"a\":", "\"b\":"), test::contains("duplicate key weight_map.b"));
  // A wrong total is only worth a warning: writers differ in what they count.
  log::set_level(log::Level::kError);
  CHECK(replaced("2080", "2081") == "no error");
  log::set_level(log::Level::kInfo);

  test::write_raw(directory / kIndex, good);
  CHECK(error_of(directory.path()) == "no error");
  write_safetensors(directory / "model-00003-of-00003.safetensors",
                    Tensors{{"d", Tensor::zeros({20}, DType::kF32, Device::kCpu)},
                            {"a", Tensor::zeros({1}, DType::kF32, Device::kCpu)}});
  CHECK_THAT(error_of(directory.path()), test::contains("tensor a is in"));
  std::filesystem::remove(directory / kFirst);
  CHECK_THAT(error_of(directory.path()), test::contains("names " + kFirst + ", which is not there"));
}
