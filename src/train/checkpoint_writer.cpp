#include "train/checkpoint_writer.h"

#include <algorithm>

#include "core/file.h"
#include "core/sha256.h"
#include "model/safetensors.h"
#include "train/checkpoint_manifest.h"
#include "train/checkpoint_read.h"
#include "train/fingerprint.h"
#include "train/moments_names.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceBytes = 4 << 20;

class Writer {
 public:
  explicit Writer(const fs::path& directory) : directory_(directory) {}

  void text(const std::string& name, const std::string& content) {
    OutputFile file(directory_ / name, ErrorKind::kCheckpoint);
    file.write(content);
    file.sync();
    file.close();
    files_.push_back({name, file.size(), sha256_hex(std::as_bytes(std::span(content)))});
  }

  void json(const std::string& name, const Json& value) { text(name, dump_json(value) + "\n"); }

  void copy(const CopiedFile& copied) {
    const InputFile source(copied.source, ErrorKind::kCheckpoint);
    OutputFile file(directory_ / copied.name, ErrorKind::kCheckpoint);
    Sha256 hash;
    std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPieceBytes, source.size())));
    while (file.size() < source.size()) {
      const auto piece =
          std::span(buffer).first(static_cast<size_t>(std::min(kPieceBytes, source.size() - file.size())));
      source.read_at(file.size(), piece);
      hash.update(piece);
      file.write(piece);
    }
    file.sync();
    file.close();
    files_.push_back({copied.name, file.size(), hash.hex()});
  }

  void tensors(const std::string& name, const std::vector<NamedTensor>& tensors) {
    SafetensorsOptions options;
    options.sync = true;
    const WrittenFile written = write_safetensors(directory_ / name, tensors, options);
    files_.push_back({name, written.bytes, written.sha256});
  }

  void add(const ManifestFile& file) { files_.push_back(file); }

  bool has(const std::string& name) const {
    return std::any_of(files_.begin(), files_.end(), [&](const auto& file) { return file.name == name; });
  }

  std::vector<ManifestFile> files() const { return files_; }

 private:
  fs::path directory_;
  std::vector<ManifestFile> files_;
};

// What AutoTokenizer needs beside tokenizer.model. "legacy": false reads text as sentencepiece itself does.
void write_tokenizer_config(Writer& writer, const SpecialPieces& pieces) {
  Json map = Json::object();
  const auto add = [&](const char* name, const std::string& piece) {
    if (!piece.empty()) map[name] = piece;
  };
  add("bos_token", pieces.bos);
  add("eos_token", pieces.eos);
  add("unk_token", pieces.unk);
  Json config = {{"tokenizer_class", "LlamaTokenizer"},
                 {"add_bos_token", !pieces.bos.empty()},
                 {"add_eos_token", false},
                 {"clean_up_tokenization_spaces", false},
                 {"legacy", false}};
  config.update(map);
  if (!writer.has("tokenizer_config.json")) writer.json("tokenizer_config.json", config);
  if (!writer.has("special_tokens_map.json")) writer.json("special_tokens_map.json", map);
}

std::vector<NamedTensor> moments_of(const CheckpointContents& contents) {
  std::vector<NamedTensor> moments;
  for (const auto& [name, tensor] : contents.first_moments) moments.push_back({kFirstMoment + name, tensor});
  for (const auto& [name, tensor] : contents.second_moments)
    moments.push_back({kSecondMoment + name, tensor});
  return moments;
}

Json state_json(const TrainerState& state) {
  return {{"step", state.step},           {"tokens", state.tokens},
          {"cursor", state.cursor},       {"updates", state.updates},
          {"skipped", state.skipped},     {"skipped_in_a_row", state.skipped_in_a_row},
          {"log_bytes", state.log_bytes}, {"timing_bytes", state.timing_bytes},
          {"seconds", state.seconds},     {"data_fingerprint", format_fingerprint(state.data_fingerprint)}};
}

}  // namespace

void write_checkpoint(const fs::path& directory, const CheckpointContents& contents,
                      const std::function<void()>& after_weights) {
  const fs::path trainer = directory / "trainer";
  create_directories(trainer, ErrorKind::kCheckpoint);
  Writer writer(directory);
  writer.tensors("model.safetensors", contents.weights);
  if (after_weights) after_weights();
  writer.json("config.json", contents.model_config);
  if (!contents.generation_config.is_null())
    writer.json("generation_config.json", contents.generation_config);
  for (const CopiedFile& file : contents.tokenizer_files) writer.copy(file);
  if (writer.has("tokenizer.model")) write_tokenizer_config(writer, contents.special_pieces);
  if (contents.write_moments) {
    for (const ManifestFile& file : contents.write_moments(directory)) writer.add(file);
  } else {
    writer.tensors(kWholeMomentsFile, moments_of(contents));
  }
  writer.json("trainer/state.json", state_json(contents.state));
  writer.json("trainer/run.json", contents.run_config);
  sync_directory(trainer, ErrorKind::kCheckpoint);
  sync_directory(directory, ErrorKind::kCheckpoint);

  Manifest manifest;
  manifest.step = contents.state.step;
  manifest.tokens = contents.state.tokens;
  manifest.poisoned = contents.poisoned;
  manifest.data_fingerprint = contents.state.data_fingerprint;
  manifest.files = writer.files();
  manifest.run_config_sha256 = manifest.find("trainer/run.json")->sha256;
  writer.text(kManifestName, format_manifest(manifest));
  sync_directory(directory, ErrorKind::kCheckpoint);
}

int64_t checkpoint_bytes(const CheckpointContents& contents) {
  int64_t bytes = contents.written_moments_bytes;
  for (const auto* tensors : {&contents.weights, &contents.first_moments, &contents.second_moments}) {
    for (const NamedTensor& named : *tensors) bytes += named.tensor.bytes();
  }
  for (const CopiedFile& file : contents.tokenizer_files) {
    std::error_code code;
    const auto size = fs::file_size(file.source, code);
    if (!code) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace sluice
