#include "target.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/json.h"
#include "config/run_config.h"
#include "core/file.h"
#include "core/log.h"
#include "core/sha256.h"
#include "data/llmc_shard.h"
#include "data/megatron_writer.h"
#include "data/token_formats.h"
#include "data/tokenizer.h"
#include "data/train_tokenizer.h"
#include "model/model_config.h"
#include "model/weight_directory.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_manifest.h"
#include "train/task_item.h"

namespace sluice::fuzz {
namespace {

namespace fs = std::filesystem;

// Files are made anew for each input and never made durable.
const fs::path& scratch() {
  static const test::TemporaryDirectory directory;
  return directory.path();
}

fs::path put(const std::string& name, std::string_view bytes) {
  const fs::path path = scratch() / name;
  fs::remove(path);
  OutputFile(path, ErrorKind::kInternal).write(bytes);
  return path;
}

std::string bytes_of(const fs::path& path) { return read_text_file(path, ErrorKind::kInternal); }

template <class Read>
bool reads(Read&& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    // Internal errors are mistakes of ours, whatever the bytes.
    if (error.kind() == ErrorKind::kInternal) throw;
    return false;
  }
}

void load_all(const WeightDirectory& weights) {
  for (const std::string& name : weights.names()) {
    const StoredTensor& tensor = weights.find(name);
    weights.stream(name, std::nullopt).stream([](std::span<const std::byte>) {});
    if (is_convertible_float(tensor.type)) {
      weights.stream(name, StoredType::kF16).stream([](std::span<const std::byte>) {});
      reads([&] { weights.load(name, DType::kF32); });
    } else if (is_convertible_integer(tensor.type)) {
      reads([&] { weights.load(name, DType::kI32); });
    }
  }
}

std::vector<NamedTensor> small_tensors() {
  return {{"weight", Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6})},
          {"bias", Tensor::from<int32_t>({3}, {7, 8, 9})},
          {"scale", Tensor::from<double>({}, {0.5})},
          {"empty", Tensor::from<float>({0, 4}, {})}};
}

Target safetensors() {
  return {"safetensors",
          [](std::string_view bytes) {
            const fs::path path = put("w.safetensors", bytes);
            return reads([&] { load_all(WeightDirectory(path)); });
          },
          [] {
            const fs::path path = scratch() / "seed.safetensors";
            write_safetensors(path, small_tensors());
            return std::vector<std::string>{bytes_of(path)};
          },
          20000};
}

Target safetensors_index() {
  static const auto folder = [] {
    const fs::path path = scratch() / "sharded";
    fs::create_directories(path);
    write_sharded(path, small_tensors(), 30);
    return path;
  };
  return {"safetensors_index",
          [](std::string_view bytes) {
            static const fs::path path = folder();
            const fs::path index = path / "model.safetensors.index.json";
            fs::remove(index);
            OutputFile(index, ErrorKind::kInternal).write(bytes);
            return reads([&] { load_all(WeightDirectory(path)); });
          },
          [] {
            const fs::path path = scratch() / "sharded_seed";
            fs::create_directories(path);
            if (fs::is_empty(path)) write_sharded(path, small_tensors(), 30);
            return std::vector<std::string>{bytes_of(path / "model.safetensors.index.json")};
          },
          20000};
}

void read_tokens(const fs::path& path) {
  const TokenFile file = open_token_file(path);
  std::vector<int32_t> tokens(static_cast<size_t>(std::min<int64_t>(file.size(), 4096)));
  std::vector<int32_t> flags(tokens.size());
  file.mark_documents(0, flags);
  file.check_vocabulary(100000, 0, file.size());
  file.read(file.size() - static_cast<int64_t>(tokens.size()), tokens);
}

std::string shard(TokenType type, const std::vector<int32_t>& tokens) {
  const auto header = llmc::header(type, static_cast<int64_t>(tokens.size()));
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof header);
  for (const int32_t token : tokens)
    bytes.append(reinterpret_cast<const char*>(&token), static_cast<size_t>(size_of(type)));
  return bytes;
}

Target token_shard() {
  return {"token_shard",
          [](std::string_view bytes) {
            const fs::path path = put("t.bin", bytes);
            return reads([&] { read_tokens(path); });
          },
          [] {
            return std::vector<std::string>{shard(TokenType::kUint16, {1, 2, 3}),
                                            shard(TokenType::kUint32, {1, 2, 70000}),
                                            std::string("\1\0\2\0", 4)};
          },
          20000};
}

// The first two bytes are the size of the tokens, the rest is the index.
Target megatron_index() {
  return {"megatron_index",
          [](std::string_view bytes) {
            if (bytes.size() < 2) return false;
            const auto size = static_cast<size_t>(static_cast<uint8_t>(bytes[0])) +
                              256 * static_cast<size_t>(static_cast<uint8_t>(bytes[1]));
            const fs::path path = put("m.bin", std::string(size, '\0'));
            put("m.idx", bytes.substr(2));
            return reads([&] { read_tokens(path); });
          },
          [] {
            std::vector<std::string> seeds;
            for (const TokenType type : {TokenType::kUint16, TokenType::kInt32}) {
              const fs::path bin = scratch() / "seed_m.bin";
              fs::remove(bin);
              fs::remove(scratch() / "seed_m.idx");
              MegatronWriter writer(bin, type);
              writer.append(std::vector<int32_t>{1, 2, 3});
              writer.end_document();
              writer.append(std::vector<int32_t>{4, 5});
              writer.finish();
              const auto size = static_cast<char>(5 * size_of(type));
              seeds.push_back(std::string{size, '\0'} + bytes_of(scratch() / "seed_m.idx"));
            }
            return seeds;
          },
          20000};
}

Target json() {
  return {"json",
          [](std::string_view bytes) {
            return reads([&] {
              const Json value = parse_json(bytes, "fuzzed", ErrorKind::kUsage);
              const std::string text = dump_json(value);
              SLUICE_CHECK(dump_json(parse_json(text, "dumped", ErrorKind::kInternal)) == text, kInternal,
                           "what was read is not what is written: {}", text);
            });
          },
          [] {
            return std::vector<std::string>{
                R"({"a":[1,-2.5e3,null,true,"x\u00e9\n"],"b":{"c":{},"d":[]},"e":18446744073709551615})"};
          },
          60000};
}

constexpr const char* kRun =
    R"({"name":"r","model":{"model_type":"gla","hidden_size":64},"data":{"train":[{"path":"a","weight":2}],"seed":3},
"optimizer":{"lr":1e-3},"schedule":{"kind":"wsd","warmup_steps":5},"train":{"steps":10,"sequence_length":64,
"global_batch_tokens":128,"recompute":"layer","sample_prompts":["x"]},"checkpoint":{"keep_last":2},
"log":{"every":2},"parallel":{"world_size":1}})";

Target run_config() {
  return {"run_config",
          [](std::string_view bytes) {
            const fs::path path = put("run.json", bytes);
            return reads([&] {
              Problems problems;
              const RunConfig run = read_run_config(path, {}, problems);
              read_model_config(run.model, "model", UnknownKeys::kRefuse, problems);
              problems.throw_if_any("run.json", ErrorKind::kUsage);
              to_json(run);
            });
          },
          [] { return std::vector<std::string>{kRun}; }, 10000};
}

Target model_config() {
  return {"model_config",
          [](std::string_view bytes) {
            const fs::path path = put("config.json", bytes);
            return reads([&] {
              const ModelConfig config = read_model_config_file(path);
              to_hugging_face_json(config, "float32");
            });
          },
          [] {
            return std::vector<std::string>{
                R"({"model_type":"gla","hidden_size":64,"num_heads":2,"num_hidden_layers":4,"expand_k":0.5,
"attn":{"layers":[1,3],"num_heads":4,"window_size":8},"clamp_min":-0.5,"feature_map":"relu","norm_eps":1e-6})",
                R"({"model_type":"transformer","hidden_size":64,"num_heads":4,"num_kv_heads":2,"qk_norm":true,
"rope_theta":1e4,"clamp_min":{"__float__":"-Infinity"},"window_size":16,"vocab_size":96,"eos_token_id":2})"};
          },
          20000};
}

// The manifest's own hash would keep every change out, so it is set right, and the rest has to stand.
Target manifest() {
  return {"manifest",
          [](std::string_view bytes) {
            const fs::path folder = scratch() / "checkpoint";
            fs::create_directories(folder);
            std::string text(bytes);
            if (text.starts_with("{\n")) {
              const std::string hash = sha256_hex(std::as_bytes(std::span(text)));
              text.insert(2, "  \"sha256\": \"" + hash + "\",\n");
            }
            fs::remove(folder / kManifestName);
            OutputFile(folder / kManifestName, ErrorKind::kInternal).write(text);
            return reads([&] { read_manifest(folder); });
          },
          [] {
            Manifest manifest;
            manifest.step = 7;
            manifest.run_config_sha256 = std::string(64, 'a');
            manifest.files = {{"model.safetensors", 10, std::string(64, 'b')},
                              {"trainer/run.json", 3, std::string(64, 'a')}};
            std::string text = format_manifest(manifest);
            const size_t line = text.find('\n') + 1;
            text.erase(line, text.find('\n', line) + 1 - line);  // the hash
            return std::vector<std::string>{text};
          },
          20000};
}

Target tokenizer() {
  return {"tokenizer",
          [](std::string_view bytes) {
            const fs::path path = put("tokenizer.model", bytes);
            return reads([&] {
              const Tokenizer tokenizer(path);
              const auto ids = tokenizer.encode("a text, \xC3\xA9\xFF\n  with lines\n");
              tokenizer.decode(ids);
              for (int32_t id = 0; id < std::min<int64_t>(tokenizer.vocabulary_size(), 500); ++id)
                tokenizer.bytes_of(id);
            });
          },
          [] {
            std::vector<std::string> seeds;
            for (const char* kind : {"bpe", "unigram"}) {
              TokenizerTraining training;
              training.model = kind;
              training.vocabulary_size = 300;
              bool given = false;
              seeds.push_back(train_tokenizer(training, [&](std::string& text) {
                for (int i = 0; i < 50; ++i)
                  text +=
                      "a text with lines, and words in the lines of the text; quick brown foxes jump over "
                      "lazy dogs\n";
                return !std::exchange(given, true);
              }));
            }
            return seeds;
          },
          8000};
}

Target tasks() {
  return {"tasks",
          [](std::string_view bytes) {
            const fs::path path = put("tasks.jsonl", bytes);
            return reads([&] { read_task_file(path, std::nullopt); });
          },
          [] {
            return std::vector<std::string>{
                R"({"type":"multiple_choice","context":"a","choices":["b","c"],"answer":1})"
                "\n"
                R"({"type":"last_word","text":"a b c"})"
                "\n"
                R"({"type":"contains","context":"a","answers":["b"]})"
                "\n"};
          },
          20000};
}

}  // namespace

const std::vector<Target>& targets() {
  static const std::vector<Target> all = [] {
    log::set_level(log::Level::kError);
    return std::vector<Target>{safetensors(), safetensors_index(), token_shard(), megatron_index(), json(),
                               run_config(),  model_config(),      manifest(),    tokenizer(),      tasks()};
  }();
  return all;
}

const Target& find_target(std::string_view name) {
  std::string names;
  for (const Target& target : targets()) {
    if (name == target.name) return target;
    names += std::string(names.empty() ? "" : ", ") + target.name;
  }
  SLUICE_FAIL(kUsage, "fuzz target \"{}\" is not known; known are: {}", name, names);
}

}  // namespace sluice::fuzz
