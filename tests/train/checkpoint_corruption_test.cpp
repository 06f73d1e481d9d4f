// Whatever happens to the bytes of a checkpoint, it is noticed, and the one before it is taken.
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/random.h"
#include "core/sha256.h"
#include "sample_checkpoint.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_store.h"

using namespace sluice;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kElements = 6000;

std::string text_of(const fs::path& path) { return read_text_file(path, ErrorKind::kCheckpoint); }

void overwrite(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

// Two checkpoints, of which the newer one is to be damaged and the older one must be found then.
struct Pair {
  test::TemporaryDirectory directory;
  CheckpointStore store{directory.path(), {.keep_last = 2}};
  fs::path older = store.save(test::sample_checkpoint(1, kElements));
  fs::path newer = store.save(test::sample_checkpoint(2, kElements));
  Manifest manifest = CheckpointStore::verify(newer);

  // The reason for refusing the newer one; "" when it was not refused.
  std::string refusal() {
    std::string report;
    const auto found = store.newest_valid(report);
    REQUIRE(found);
    if (found->directory == newer) return "";
    REQUIRE(found->directory == older);
    return report;
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names = {kManifestName};
    for (const ManifestFile& file : manifest.files) names.push_back(file.name);
    return names;
  }
};

// The manifest with its own hash made right after an edit.
void write_signed(const fs::path& directory, const Json& edited) {
  const std::string rest = dump_json(edited) + "\n";
  const std::string hash = sha256_hex(std::as_bytes(std::span(rest)));
  overwrite(directory / kManifestName, "{\n  \"sha256\": \"" + hash + "\",\n" + rest.substr(2));
}

}  // namespace

TEST_CASE("every flipped bit is noticed, with the file and both hashes") {
  Pair pair;
  REQUIRE(pair.refusal() == "");
  const auto names = pair.files();
  const Philox random(7);
  for (uint64_t i = 0; i < 200; ++i) {
    // Files in turn, so that small ones are hit too.
    const std::string& name = names[i % names.size()];
    const fs::path path = pair.newer / name;
    const std::string original = text_of(path);
    const uint64_t bit = random.bits64(i) % (8 * original.size());
    std::string damaged = original;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    overwrite(path, damaged);
    const std::string refusal = pair.refusal();
    INFO(name << ", bit " << bit << ": " << refusal);
    CHECK_THAT(refusal, test::contains(path.string()));
    if (const ManifestFile* file = pair.manifest.find(name)) {
      CHECK_THAT(refusal, test::contains(file->sha256));
      CHECK_THAT(refusal, test::contains(sha256_hex(std::as_bytes(std::span(damaged)))));
    }
    overwrite(path, original);
  }
  CHECK(pair.refusal() == "");
}

TEST_CASE("every truncation is noticed, and a file that grew") {
  Pair pair;
  for (const std::string& name : pair.files()) {
    const fs::path path = pair.newer / name;
    const std::string original = text_of(path);
    std::vector<size_t> sizes = {original.size() - 1, original.size() + 1};
    for (size_t size = 0; size < original.size(); size += 4096) sizes.push_back(size);
    for (const size_t size : sizes) {
      std::string damaged = original;
      damaged.resize(size);
      overwrite(path, damaged);
      INFO(name << " with " << size << " bytes");
      CHECK_THAT(pair.refusal(), test::contains(path.string()));
    }
    overwrite(path, original);
  }
  CHECK(pair.refusal() == "");
}

TEST_CASE("a missing file is noticed, one more is not minded") {
  Pair pair;
  for (const std::string& name : pair.files()) {
    const fs::path aside = pair.directory / "aside";
    fs::rename(pair.newer / name, aside);
    INFO(name);
    CHECK_THAT(pair.refusal(),
               test::contains(name == kManifestName ? "holds no manifest.json" : "is missing"));
    fs::rename(aside, pair.newer / name);
  }
  overwrite(pair.newer / "notes.txt", "of the user");
  CHECK(pair.refusal() == "");
}

TEST_CASE("links in place of files are refused") {
  Pair pair;
  const std::string name = GENERATE("config.json", "trainer", "trainer/state.json");
  fs::rename(pair.newer / name, pair.directory / "aside");
  fs::create_symlink(pair.directory / "aside", pair.newer / name);
  CHECK_THAT(pair.refusal(), test::contains((pair.newer / name).string() + ": is no plain"));
}

TEST_CASE("with sizes alone, a changed size is noticed") {
  Pair pair;
  const fs::path path = pair.newer / "model.safetensors";
  std::string text = text_of(path);
  text.back() ^= 1;
  overwrite(path, text);
  CHECK_NOTHROW(CheckpointStore::verify(pair.newer, VerifyLevel::kSize));
  CHECK_THROWS_WITH(CheckpointStore::verify(pair.newer), test::contains("its sha256 is"));
  text.pop_back();
  overwrite(path, text);
  CHECK_THROWS_WITH(
      CheckpointStore::verify(pair.newer, VerifyLevel::kSize),
      test::contains(fmt::format("has {} bytes, the manifest says {}", text.size(), text.size() + 1)));
}

TEST_CASE("an edited manifest is refused even with its hash made right") {
  struct Edit {
    const char* what;
    std::function<void(Json&)> apply;
    const char* message;
  };
  const auto name_first = [](const char* name) {
    return [name](Json& json) { json["files"][0]["name"] = name; };
  };
  const std::vector<Edit> edits = {
      {"parent", name_first("../step_00000001/model.safetensors"), "no plain file name"},
      {"dots", name_first(".."), "no plain file name"},
      {"absolute", name_first("/etc/passwd"), "no plain file name"},
      {"parent in trainer", name_first("trainer/../config.json"), "no plain file name"},
      {"deeper", name_first("trainer/a/b"), "no plain file name"},
      {"other folder", name_first("logs/a"), "no plain file name"},
      {"backslash", name_first("a\\b"), "no plain file name"},
      {"empty", name_first(""), "no plain file name"},
      {"hidden", name_first(".config.json"), "no plain file name"},
      {"itself", name_first("manifest.json"), "no plain file name"},
      {"folder", name_first("trainer"), "no plain file name"},
      {"twice", [](Json& json) { json["files"].push_back(json["files"][0]); }, "listed twice"},
      {"renamed", name_first("weights.safetensors"), "does not list model.safetensors"},
      {"no files", [](Json& json) { json["files"] = Json::array(); }, "does not list config.json"},
      {"files missing", [](Json& json) { json.erase("files"); }, "files"},
      {"negative size", [](Json& json) { json["files"][0]["bytes"] = -1; }, "bytes"},
      {"bad hash", [](Json& json) { json["files"][0]["sha256"] = "abc"; }, "64 hexadecimal digits"},
      {"version", [](Json& json) { json["format_version"] = 2; }, "format version 2"},
      {"step", [](Json& json) { json["step"] = 3; }, "the manifest says step 3"},
      {"step as text", [](Json& json) { json["step"] = "2"; }, "step"},
      {"extra key", [](Json& json) { json["colour"] = 1; }, "colour"},
      {"run config", [](Json& json) { json["run_config_sha256"] = std::string(64, '0'); },
       "run_config_sha256"},
      {"fingerprint", [](Json& json) { json["data_fingerprint"] = 12; }, "data_fingerprint"},
  };
  Pair pair;
  const Json original = [&] {
    Json json = read_json_file(pair.newer / kManifestName, ErrorKind::kCheckpoint);
    json.erase("sha256");
    return json;
  }();
  write_signed(pair.newer, original);
  REQUIRE(pair.refusal() == "");
  for (const Edit& edit : edits) {
    Json json = original;
    edit.apply(json);
    write_signed(pair.newer, json);
    INFO(edit.what);
    CHECK_THAT(pair.refusal(), test::contains(edit.message));
    try {
      CheckpointStore::verify(pair.newer);
      FAIL("was accepted");
    } catch (const Error& error) {
      CHECK(error.exit_code() == 4);
    }
  }
}

TEST_CASE("a manifest without its hash, or one far too large, is refused") {
  Pair pair;
  overwrite(pair.newer / kManifestName, "{}");
  CHECK_THAT(pair.refusal(), test::contains("its second line is not its sha256"));
  overwrite(pair.newer / kManifestName, std::string((1 << 20) + 1, ' '));
  CHECK_THAT(pair.refusal(), test::contains("too many for a manifest"));
}
