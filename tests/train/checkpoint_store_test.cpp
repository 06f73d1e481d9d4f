#include "train/checkpoint_store.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/sha256.h"
#include "model/safetensors.h"
#include "sample_checkpoint.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_names.h"

using namespace sluice;
using test::sample_checkpoint;
namespace fs = std::filesystem;

namespace {

std::string text_of(const fs::path& path) { return read_text_file(path, ErrorKind::kCheckpoint); }

void save_steps(CheckpointStore& store, std::initializer_list<int64_t> steps) {
  for (const int64_t step : steps) store.save(sample_checkpoint(step));
}

std::vector<int64_t> steps_in(const CheckpointStore& store) {
  std::vector<int64_t> steps;
  for (const fs::path& path : store.list()) steps.push_back(*step_of_name(path.filename().string()));
  return steps;
}

void corrupt(const fs::path& file) {
  std::string text = text_of(file);
  text.back() ^= 1;
  std::ofstream(file, std::ios::binary) << text;
}

Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error");
  throw;
}

}  // namespace

TEST_CASE("a checkpoint reads back as it was saved") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "books.model", "sentencepiece", ErrorKind::kData);
  CheckpointContents contents = sample_checkpoint(12);
  contents.tokenizer_files = {{directory / "books.model", "tokenizer.model"}};
  contents.special_pieces = {"<s>", "</s>", "<unk>"};
  CheckpointStore store(directory / "checkpoints", {});
  const fs::path path = store.save(contents);

  CHECK(path == directory / "checkpoints" / "step_00000012");
  CHECK(test::difference_from_sample(path, 12) == "");
  const TrainerState state = read_trainer_state(path);
  CHECK(state.step == 12);
  CHECK(state.tokens == 12 * 4096);
  CHECK(state.cursor == 12 * 8);
  CHECK(state.updates == 11);
  CHECK(state.skipped == 1);
  CHECK(state.skipped_in_a_row == 0);
  CHECK(state.log_bytes == 1200);
  CHECK(state.timing_bytes == 1080);
  CHECK(state.seconds == 0.1 * 12);
  CHECK(state.data_fingerprint == 0xFEDCBA9876543210);
  CHECK(read_checkpoint_run_config(path) == contents.run_config);
  CHECK(read_json_file(path / "config.json", ErrorKind::kData) == contents.model_config);
  CHECK(read_json_file(path / "generation_config.json", ErrorKind::kData) == contents.generation_config);
  CHECK(text_of(path / "tokenizer.model") == "sentencepiece");
  const Json tokenizer = read_json_file(path / "tokenizer_config.json", ErrorKind::kData);
  CHECK(tokenizer["tokenizer_class"] == "LlamaTokenizer");
  CHECK(tokenizer["add_bos_token"] == true);
  CHECK(tokenizer["eos_token"] == "</s>");
  CHECK(read_json_file(path / "special_tokens_map.json", ErrorKind::kData) ==
        Json{{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}});
  CHECK(SafetensorsFile(path / "model.safetensors").metadata().at("format") == "pt");

  const Manifest manifest = CheckpointStore::verify(path);
  CHECK(manifest.step == 12);
  CHECK(manifest.tokens == 12 * 4096);
  CHECK(manifest.data_fingerprint == 0xFEDCBA9876543210);
  CHECK(manifest.run_config_sha256 == sha256_file(path / "trainer" / "run.json", ErrorKind::kData));
  CHECK(manifest.files.size() == 9);
  CHECK(entry_names(directory / "checkpoints") == std::vector<std::string>{"step_00000012"});
}

TEST_CASE("weights keep their dtype, and optional files are left out") {
  const test::TemporaryDirectory directory;
  CheckpointContents contents = sample_checkpoint(1);
  for (auto* tensors : {&contents.weights, &contents.first_moments, &contents.second_moments}) {
    for (NamedTensor& named : *tensors) named.tensor = named.tensor.to(DType::kF64);
  }
  contents.generation_config = nullptr;
  const fs::path path = CheckpointStore(directory.path(), {}).save(contents);
  CHECK(SafetensorsFile(path / "model.safetensors").find("model.norm.weight").type == StoredType::kF64);
  CHECK_FALSE(fs::exists(path / "generation_config.json"));
  CHECK_FALSE(fs::exists(path / "tokenizer_config.json"));
  CHECK_NOTHROW(CheckpointStore::verify(path));
}

TEST_CASE("equal contents give equal bytes") {
  const test::TemporaryDirectory directory;
  const fs::path a = CheckpointStore(directory / "a", {}).save(sample_checkpoint(3));
  const fs::path b = CheckpointStore(directory / "b", {}).save(sample_checkpoint(3));
  CHECK(text_of(a / kManifestName) == text_of(b / kManifestName));
}

TEST_CASE("saving a step again replaces it") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {});
  store.save(sample_checkpoint(5, 300, 0));
  const fs::path path = store.save(sample_checkpoint(5, 300, 1));
  CHECK(test::difference_from_sample(path, 5, 300, 1) == "");
  CHECK(entry_names(directory.path()) == std::vector<std::string>{"step_00000005"});
}

TEST_CASE("pruning keeps the newest valid ones and multiples") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {.keep_last = 2, .keep_every = 4});
  save_steps(store, {1, 2, 3, 4, 5, 6, 7});
  CHECK(steps_in(store) == std::vector<int64_t>{7, 6, 4});
}

TEST_CASE("pruning does not count corrupt or poisoned checkpoints") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {.keep_last = 2});
  save_steps(store, {1, 2});
  SECTION("corrupt, found by another process") {
    corrupt(directory / "step_00000002" / "model.safetensors");
    CheckpointStore other(directory.path(), {.keep_last = 2});
    other.save(sample_checkpoint(3));
    CHECK(steps_in(other) == std::vector<int64_t>{3, 2, 1});
    other.save(sample_checkpoint(4));
    CHECK(steps_in(other) == std::vector<int64_t>{4, 3});
  }
  SECTION("a file lost while the run goes on") {
    fs::remove(directory / "step_00000002" / "trainer" / "optimizer.safetensors");
    store.save(sample_checkpoint(3));
    CHECK(steps_in(store) == std::vector<int64_t>{3, 2, 1});
  }
  SECTION("poisoned") {
    CheckpointContents poisoned = sample_checkpoint(3);
    poisoned.poisoned = true;
    store.save(poisoned);
    CHECK(steps_in(store) == std::vector<int64_t>{3, 2, 1});
  }
}

TEST_CASE("checkpoints beyond the saved step are another branch and stay") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {.keep_last = 2});
  save_steps(store, {10, 20, 11, 12, 13});
  CHECK(steps_in(store) == std::vector<int64_t>{20, 13, 12});
}

TEST_CASE("the newest valid checkpoint is found, and why others were refused") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {.keep_last = 9});
  std::string report = "old text";
  CHECK_FALSE(store.newest_valid(report));
  CHECK(report.empty());
  save_steps(store, {1, 2, 3});
  CheckpointContents poisoned = sample_checkpoint(4);
  poisoned.poisoned = true;
  store.save(poisoned);
  corrupt(directory / "step_00000003" / "trainer" / "state.json");
  fs::create_directories(directory / "step_00000005");  // no manifest
  fs::create_directories(directory / "step_6");         // not a name of ours

  const auto found = store.newest_valid(report);
  REQUIRE(found);
  CHECK(found->directory == directory / "step_00000002");
  CHECK(found->manifest.step == 2);
  CHECK_THAT(report, test::contains("step_00000005: holds no manifest.json"));
  CHECK_THAT(report, test::contains("step_00000004: its weights are not finite"));
  CHECK_THAT(report, test::contains("step_00000003/trainer/state.json: its sha256 is"));
  CHECK(std::count(report.begin(), report.end(), '\n') == 2);
}

TEST_CASE("clean_up removes leftovers and puts back what was to be replaced") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {});
  save_steps(store, {1, 2});
  fs::create_directories(directory / ".tmp-step_00000003-0123/trainer");
  write_file_atomically(directory / ".tmp-probe-1", "x", ErrorKind::kData);
  fs::copy(directory / "step_00000001", directory / ".old-step_00000001", fs::copy_options::recursive);
  fs::rename(directory / "step_00000002", directory / ".old-step_00000002");
  write_file_atomically(directory / "notes.txt", "of the user", ErrorKind::kData);

  std::string report;
  CHECK(store.newest_valid(report)->manifest.step == 2);  // readers find it before anybody cleans up
  store.clean_up();
  CHECK(entry_names(directory.path()) ==
        std::vector<std::string>{"notes.txt", "step_00000001", "step_00000002"});
  CHECK_NOTHROW(CheckpointStore::verify(directory / "step_00000002"));
}

TEST_CASE("a save that fails says where, how much it needs and what is free") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {});
  store.save(sample_checkpoint(1));
  CheckpointContents contents = sample_checkpoint(2);
  contents.tokenizer_files = {{directory / "nowhere", "tokenizer.model"}};
  const Error error = error_of([&] { store.save(contents); });
  CHECK(error.exit_code() == 4);
  CHECK_THAT(error.what(), test::contains("step_00000002: the checkpoint was not saved"));
  CHECK_THAT(error.what(), test::contains("nowhere: cannot open"));
  CHECK_THAT(error.what(), test::contains("It needs 3636 bytes"));  // 3 x (300 + 3) floats
  CHECK_THAT(error.what(), test::contains("are free"));
  CHECK(entry_names(directory.path()) == std::vector<std::string>{"step_00000001"});
}

TEST_CASE("an unwritable place is an error before the first step") {
  const test::TemporaryDirectory directory;
  write_file_atomically(directory / "file", "x", ErrorKind::kData);
  CheckpointStore store(directory / "file" / "checkpoints", {});
  const Error error = error_of([&] { store.check_space(1); });
  CHECK(error.exit_code() == 4);
  CHECK_THAT(error.what(), test::contains("cannot create directory"));
  CHECK(error_of([&] { store.save(sample_checkpoint(1)); }).exit_code() == 4);
}

TEST_CASE("check_space tells an error from a warning") {
  const test::TemporaryDirectory directory;
  CheckpointStore store(directory.path(), {.keep_last = 2});
  CHECK(store.check_space(1) == "");
  const auto free = static_cast<int64_t>(fs::space(directory.path()).available);
  CHECK_THAT(store.check_space(free / 2), test::contains("room for 1 checkpoints"));
  const Error error = error_of([&] { store.check_space(free + 1); });
  CHECK(error.exit_code() == 4);
  CHECK_THAT(error.what(), test::contains("a checkpoint needs"));
  CHECK(entry_names(directory.path()).empty());
}

TEST_CASE("options are checked") {
  CHECK(error_of([] { CheckpointStore("x", {.keep_last = 0}); }).exit_code() == 2);
  CHECK(parse_verify_level("full") == VerifyLevel::kFull);
  CHECK(parse_verify_level("size") == VerifyLevel::kSize);
  CHECK_THROWS_WITH(parse_verify_level("some"), test::contains("got \"some\""));
}
