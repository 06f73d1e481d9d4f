// The program `convert`, run as its users do.
#include <sys/wait.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "core/sha256.h"
#include "model/weight_directory.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/random_tensor.h"
#include "support/temporary_directory.h"

using namespace sluice;

namespace {

namespace fs = std::filesystem;

struct Run {
  int exit_code = -1;
  std::string output;  // both streams
};

Run convert(const std::string& arguments) {
  Run run;
  FILE* pipe = ::popen((SLUICE_BINARY_DIR "/convert " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  while (const size_t got = std::fread(buffer, 1, sizeof buffer, pipe)) run.output.append(buffer, got);
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  return run;
}

void write(const fs::path& path, const std::string& text) {
  write_file_atomically(path, text, ErrorKind::kData);
}

std::vector<NamedTensor> tensors() {
  return {{"model.embeddings.weight", test::random_normal({50, 8}, DType::kF32, 1)},
          {"model.norm.weight", test::random_normal({8}, DType::kF32, 2)},
          {"positions", Tensor::from<int32_t>({3}, {1, 2, 3})}};
}

// A model directory with everything a checkpoint has.
void make_model(const fs::path& path, const std::string& dtype_keys = R"("torch_dtype":"float32",)") {
  fs::create_directories(path / "trainer");
  write_sharded(path, tensors(), 1 << 20);
  write(path / "config.json", "{\"z\":1e-06," + dtype_keys + R"("a":{"__float__":"Infinity"}})");
  write(path / "tokenizer.model", std::string("\0\xff", 2));
  write(path / "tokenizer_config.json", "{}");
  write(path / "manifest.json", "{}");
  write(path / "trainer" / "moments", "x");
}

std::vector<std::string> listing(const fs::path& path) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("convert weights writes bf16 and changes the config with it") {
  const test::TemporaryDirectory directory;
  make_model(directory / "src");
  const Run run = convert(fmt::format("weights {0}/src {0}/out/ --dtype bf16", directory.path().string()));
  INFO(run.output);
  REQUIRE(run.exit_code == 0);
  CHECK(listing(directory.path()) == std::vector<std::string>{"out", "src"});
  CHECK(listing(directory / "out") == std::vector<std::string>{"config.json", "model.safetensors",
                                                               "tokenizer.model", "tokenizer_config.json"});
  const WeightDirectory weights(directory / "out");
  CHECK(weights.dtype("model.norm.weight") == StoredType::kBF16);
  CHECK(weights.dtype("positions") == StoredType::kI32);
  for (const NamedTensor& named : tensors()) {
    if (!is_floating(named.tensor.dtype())) continue;
    CHECK_CLOSE(weights.load(named.name, DType::kF32), named.tensor.to(DType::kBF16), 0, 0);
  }
  CHECK(weights.load("positions", DType::kI32).to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3});
  CHECK(weights.files()[0].metadata() == Metadata{{"format", "pt"}});
  const Json config = read_json_file(directory / "out" / "config.json", ErrorKind::kData);
  CHECK(config.dump() == R"({"z":1e-06,"torch_dtype":"bfloat16","a":{"__float__":"Infinity"}})");
  CHECK(read_text_file(directory / "out" / "tokenizer.model", ErrorKind::kData) == std::string("\0\xff", 2));
  CHECK_THAT(run.output,
             test::contains(sha256_file(directory / "out" / "model.safetensors", ErrorKind::kData)));

  // Back again: wider, of the same values.
  REQUIRE(convert(fmt::format("weights {0}/out {0}/back --dtype f32", directory.path().string())).exit_code ==
          0);
  CHECK_CLOSE(WeightDirectory(directory / "back").load("model.norm.weight", DType::kF32),
              weights.load("model.norm.weight", DType::kF32), 0, 0);
}

TEST_CASE("convert weights writes f16") {
  const test::TemporaryDirectory directory;
  make_model(directory / "src");
  const Run run = convert(fmt::format("weights {0}/src {0}/out --dtype f16", directory.path().string()));
  INFO(run.output);
  REQUIRE(run.exit_code == 0);
  const WeightDirectory weights(directory / "out");
  CHECK(weights.dtype("model.norm.weight") == StoredType::kF16);
  CHECK(weights.dtype("positions") == StoredType::kI32);
  CHECK_CLOSE(weights.load("model.norm.weight", DType::kF32), tensors()[1].tensor, 4e-4, 5e-4);
  const Json config = read_json_file(directory / "out" / "config.json", ErrorKind::kData);
  CHECK(config["torch_dtype"] == "float16");
}

TEST_CASE("the dtype is written under the key of the config's transformers version") {
  const test::TemporaryDirectory directory;
  make_model(directory / "five", R"("dtype":"float32",)");
  make_model(directory / "none", "");
  for (const auto& [name, expected] :
       {std::pair("five", R"({"z":1e-06,"dtype":"bfloat16","a":{"__float__":"Infinity"}})"),
        std::pair("none", R"({"z":1e-06,"a":{"__float__":"Infinity"},"torch_dtype":"bfloat16"})")}) {
    REQUIRE(convert(fmt::format("weights {0}/{1} {0}/{1}-out --dtype bf16", directory.path().string(), name))
                .exit_code == 0);
    const auto path = directory.path() / (name + std::string("-out")) / "config.json";
    CHECK(read_json_file(path, ErrorKind::kData).dump() == expected);
  }
}

TEST_CASE("convert weights reshards without touching the values") {
  const test::TemporaryDirectory directory;
  make_model(directory / "src");
  const std::string path = directory.path().string();
  REQUIRE(convert(fmt::format("weights {0}/src {0}/shards --max-shard-size 1KB", path)).exit_code == 0);
  CHECK(listing(directory / "shards").size() == 6);
  CHECK(WeightDirectory(directory / "shards").files().size() == 2);
  CHECK(convert(fmt::format("weights {0}/src {0}/one --max-shard-size 2KiB", path)).exit_code == 0);
  CHECK(WeightDirectory(directory / "one").files().size() == 1);
  REQUIRE(convert(fmt::format("weights {0}/shards {0}/again", path)).exit_code == 0);
  CHECK(sha256_file(directory / "again" / "model.safetensors", ErrorKind::kData) ==
        sha256_file(directory / "src" / "model.safetensors", ErrorKind::kData));
}

TEST_CASE("convert weights fails with a message and leaves nothing behind") {
  const test::TemporaryDirectory directory;
  make_model(directory / "src");
  const std::string path = directory.path().string();
  const auto fails = [](const Run& run, int code, const std::string& message) {
    CHECK(run.exit_code == code);
    CHECK_THAT(run.output, test::contains(message));
  };
  fails(convert(fmt::format("weights {0}/src {0}/src", path)), 2, "exists and is not empty");
  fails(convert(fmt::format("weights {0}/src {0}/out --dtype f8", path)), 2, "--dtype");
  fails(convert(fmt::format("weights {0}/src {0}/out --max-shard-size 5XB", path)), 2, "--max-shard-size");
  fails(convert(fmt::format("weights {0}/src {0}/out --max-shard-size 0", path)), 2, "--max-shard-size");
  fails(convert(fmt::format("weights {0}/missing {0}/out", path)), 4, "missing: holds no config.json");
  fails(convert("weights only-one"), 2, "DST");
  fails(convert(""), 2, "subcommand");
  fails(convert("nonsense"), 2, "");
  fs::resize_file(directory / "src" / "model.safetensors", 1000);
  fails(convert(fmt::format("weights {0}/src {0}/out", path)), 4, "cut short");
  fs::remove(directory / "src" / "model.safetensors");
  fails(convert(fmt::format("weights {0}/src {0}/out", path)), 4, "holds neither");
  make_model(directory / "second");
  write(directory / "second" / "config.json", "{");
  fails(convert(fmt::format("weights {0}/second {0}/out", path)), 4, "config.json: line 1");
  CHECK(listing(directory.path()) == std::vector<std::string>{"second", "src"});
}

TEST_CASE("convert inspect prints weights") {
  const test::TemporaryDirectory directory;
  make_model(directory / "src");
  for (const fs::path& path : {directory / "src", directory / "src" / "model.safetensors"}) {
    const Run run = convert("inspect " + path.string());
    CHECK(run.exit_code == 0);
    CHECK_THAT(run.output, test::contains("metadata format = pt\n"));
    CHECK_THAT(run.output,
               test::contains("model.embeddings.weight  F32                400             1600  [50, 8]\n"));
    CHECK_THAT(run.output,
               test::contains("3 tensors, 411 parameters (408 F32, 3 I32), 1644 bytes in 1 file\n"));
  }
  CHECK(convert("inspect --help").exit_code == 0);
}

TEST_CASE("convert inspect prints token files and says what is wrong with others") {
  const test::TemporaryDirectory directory;
  std::string shard(1024, '\0');
  const int32_t header[] = {20240520, 1, 3};
  std::memcpy(shard.data(), header, sizeof header);
  shard += std::string("\1\0\2\0\377\377", 6);
  write(directory / "a.bin", shard);
  const Run run = convert("inspect " + directory.path().string());
  INFO(run.output);
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.output, test::contains("starts with 1 2 65535\n3 tokens, 1030 bytes in 1 file\n"));

  write(directory / "a.bin", shard.substr(0, 1028));
  CHECK(convert("inspect " + (directory / "a.bin").string()).exit_code == 3);
  CHECK(convert("inspect " + (directory / "missing.bin").string()).exit_code == 3);
  CHECK(convert("inspect " + (directory / "missing.safetensors").string()).exit_code == 4);
}

TEST_CASE("convert inspect prints a whole model directory, and each of its files") {
  const test::TemporaryDirectory directory;
  const fs::path golden = SLUICE_SOURCE_DIR "/tests/golden/gla_small";
  for (const char* name : {"config.json", "model.safetensors"}) fs::copy(golden / name, directory / name);
  const Run whole = convert("inspect " + directory.path().string());
  INFO(whole.output);
  CHECK(whole.exit_code == 0);
  CHECK_THAT(whole.output, test::contains("gla (GLAForCausalLM)"));
  CHECK_THAT(whole.output, test::contains("2 layers of width 64, feed-forward 256, vocabulary 96\n"));
  CHECK_THAT(whole.output, test::contains("31 tensors"));
  const Run config = convert("inspect " + (directory / "config.json").string());
  CHECK(config.exit_code == 0);
  CHECK_THAT(config.output, test::contains("parameters\n"));
  // What is wrong is told, with the exit code of its kind.
  write(directory / "config.json", "{\"model_type\":\"gla\",\"num_heads\":0}");
  CHECK(convert("inspect " + (directory / "config.json").string()).exit_code == 4);
  write(directory / "manifest.json", "{}");
  CHECK(convert("inspect " + (directory / "manifest.json").string()).exit_code == 4);
  write(directory / "tokenizer.model", "x");
  CHECK(convert("inspect " + (directory / "tokenizer.model").string()).exit_code == 3);
}
