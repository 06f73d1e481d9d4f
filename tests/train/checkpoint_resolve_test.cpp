// Finding the directory a user means, and reading parts of it.
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "model/safetensors.h"
#include "sample_checkpoint.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_store.h"

using namespace sluice;
using test::sample_checkpoint;
namespace fs = std::filesystem;

TEST_CASE("checkpoints, runs and Hugging Face directories resolve") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory / "run" / "checkpoints", {});
  const fs::path first = store.save(sample_checkpoint(1));
  const fs::path second = store.save(sample_checkpoint(2));
  CHECK(CheckpointStore::resolve(first) == first);
  CHECK(CheckpointStore::resolve(directory / "run") == second);
  CHECK(CheckpointStore::resolve(directory / "run" / "checkpoints") == second);
  fs::remove(second / "config.json");
  CHECK(CheckpointStore::resolve(directory / "run") == first);
  CHECK_THROWS_WITH(CheckpointStore::resolve(second), test::contains("config.json: is missing"));
  fs::remove(first / "config.json");
  CHECK_THROWS_WITH(CheckpointStore::resolve(directory / "run"),
                    test::contains("none of its checkpoints can be used"));

  fs::create_directories(directory / "hub");
  CHECK_THROWS_WITH(CheckpointStore::resolve(directory / "hub"),
                    test::contains("found neither manifest.json"));
  write_file_atomically(directory / "hub" / "config.json", "{}", ErrorKind::kData);
  CHECK(CheckpointStore::resolve(directory / "hub") == directory / "hub");
  CHECK_THROWS_WITH(CheckpointStore::resolve(directory / "none"), test::contains("no such directory"));
  fs::create_directories(directory / "new" / "checkpoints");
  CHECK_THROWS_WITH(CheckpointStore::resolve(directory / "new"), test::contains("holds no checkpoints yet"));
}

TEST_CASE("load_named wants exactly the names and shapes") {
  const test::TemporaryDirectory directory;
  const fs::path file = directory / "a.safetensors";
  write_safetensors(file, std::vector<NamedTensor>{{"p.a", Tensor::from<float>({2}, {1, 2})},
                                                   {"p.b", Tensor::from<float>({1}, {3})},
                                                   {"q.c", Tensor::from<float>({1}, {4})}});
  const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape, DType::kF32, Device::kCpu); };
  const Tensor a = zeros({2});
  const Tensor b = zeros({1});
  load_named(file, "p.", {{"b", b}, {"a", a}});
  CHECK(a.to_vector<float>() == std::vector<float>{1, 2});
  CHECK(b.to_vector<float>() == std::vector<float>{3});
  CHECK_THROWS_WITH(load_named(file, "p.", {{"a", a}}), test::contains("no place for 1 of its tensors: p.b"));
  CHECK_THROWS_WITH(load_named(file, "p.", {{"a", a}, {"b", b}, {"c", b}}),
                    test::contains("1 of the model's tensors are not in it: p.c"));
  CHECK_THROWS_WITH(load_named(file, "p.", {{"a", zeros({3})}, {"b", b}}), test::contains("[3]"));
  CHECK_THROWS_WITH(load_named(file, "", {{"p.a", a}, {"p.b", b}}), test::contains("q.c"));
}

TEST_CASE("load_moments refuses tensors that are no moments") {
  const test::TemporaryDirectory directory;
  const fs::path path = CheckpointStore(directory.path(), {}).save(sample_checkpoint(1));
  const CheckpointContents sample = sample_checkpoint(2);
  CHECK_NOTHROW(load_moments(path, sample.first_moments, sample.second_moments));
  write_safetensors(path / "trainer" / "optimizer.safetensors", sample.weights);
  CHECK_THROWS_WITH(load_moments(path, {}, {}), test::contains("neither a first nor a second moment"));
}

TEST_CASE("a trainer state of another form is refused with its keys") {
  const test::TemporaryDirectory directory;
  const fs::path path = CheckpointStore(directory.path(), {}).save(sample_checkpoint(1));
  const fs::path file = path / "trainer" / "state.json";
  Json json = read_json_file(file, ErrorKind::kData);
  json.erase("cursor");
  json["step"] = -1;
  json["data_fingerprint"] = "xyz";
  write_file_atomically(file, dump_json(json), ErrorKind::kData);
  try {
    read_trainer_state(path);
    FAIL("was read");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 4);
    for (const char* part : {"state.json", "cursor", "step", "data_fingerprint", "16 hexadecimal digits"}) {
      CHECK_THAT(error.what(), test::contains(part));
    }
  }
}
