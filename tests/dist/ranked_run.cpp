#include "ranked_run.h"

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/file.h"
#include "core/sha256.h"
#include "model/safetensors.h"
#include "train/checkpoint_manifest.h"
#include "train/checkpoint_names.h"

namespace sluice::test {
namespace {

Outcome finish(ChildProcess&& child) {
  Outcome outcome;
  outcome.output = child.read_all();
  outcome.exit_code = child.wait();
  return outcome;
}

}  // namespace

RankedRun::RankedRun() {
  set("train.steps", "50");
  set("train.device", "cpu");
  set("train.dtype", "float64");
  set("train.global_batch_tokens", "128");
  set("checkpoint.every", "0");
}

std::vector<std::string> RankedRun::arguments(const std::string& output,
                                              const std::vector<std::string>& more) const {
  std::vector<std::string> all = {"--config", config_path(), "--set",
                                  "train.output_dir=" + (*this / output).string()};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

Outcome RankedRun::on(int ranks, const std::string& output, const std::string& fault,
                      const std::vector<std::string>& more) const {
  auto environment = mpi_environment();
  if (!fault.empty()) environment.emplace_back("SLUICE_FAULT", fault);
  return finish(ChildProcess(under_mpi(ranks, "train", arguments(output, more)), environment));
}

Outcome RankedRun::with_last(int ranks, const std::string& output, const std::string& fault,
                             const std::vector<std::string>& last) const {
  auto command = under_mpi(ranks - 1, "train", arguments(output));
  for (const char* part : {":", "-np", "1"}) command.emplace_back(part);
  if (!fault.empty()) {
    command.push_back("-x");
    command.push_back("SLUICE_FAULT=" + fault);
  }
  command.push_back(std::string(SLUICE_BINARY_DIR) + "/train");
  for (const std::string& argument : arguments(output, last)) command.push_back(argument);
  return finish(ChildProcess(command, mpi_environment()));
}

std::vector<std::string> RankedRun::all_hashes(const std::string& output, int64_t step) const {
  const auto run = *this / output;
  const auto checkpoint = run / "checkpoints" / checkpoint_name(step);
  std::vector<std::string> all = {sha256_file(run / "log.jsonl", ErrorKind::kInternal)};
  for (const ManifestFile& file : read_manifest(checkpoint).files) {
    if (file.name.ends_with(".safetensors")) all.push_back(file.name + " " + file.sha256);
  }
  return all;
}

std::vector<Json> RankedRun::log(const std::string& output) const {
  const std::string text = read_text_file(*this / (output + "/log.jsonl"), ErrorKind::kInternal);
  std::vector<Json> lines;
  for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
    lines.push_back(
        parse_json(text.substr(begin, text.find('\n', begin) - begin), "log", ErrorKind::kInternal));
  }
  return lines;
}

std::vector<double> RankedRun::losses(const std::string& output) const {
  std::vector<double> values;
  for (const Json& line : log(output)) {
    values.push_back(line[line.contains("loss") ? "loss" : "validation_loss"].get<double>());
  }
  return values;
}

std::vector<double> RankedRun::weights(const std::string& output) const {
  const SafetensorsFile file(*this / (output + "/checkpoints/step_00000050/model.safetensors"));
  std::vector<double> values;
  for (const auto& tensor : file.tensors()) {
    const auto part = file.load(tensor.name, DType::kF64).to_vector<double>();
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

int RankedRun::processes() const {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::error_code code;
    if (!std::filesystem::exists(entry.path() / "cmdline", code)) continue;
    try {
      count += read_text_file(entry.path() / "cmdline", ErrorKind::kInternal).find(config_path()) !=
               std::string::npos;
    } catch (const Error&) {
      // It ended meanwhile.
    }
  }
  return count;
}

int RankedRun::processes_left() const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (processes() > 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return processes();
}

}  // namespace sluice::test
