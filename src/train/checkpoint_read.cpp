#include "train/checkpoint_read.h"

#include <nlohmann/json.hpp>
#include <set>

#include "config/object_reader.h"
#include "model/safetensors.h"
#include "train/fingerprint.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// The first few of a set of names, for a message.
std::string list_of(const std::set<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string text;
  size_t shown = 0;
  for (const std::string& name : names) {
    if (shown++ == kShown) return text + fmt::format(" and {} more", names.size() - kShown);
    text += (text.empty() ? "" : ", ") + printable(name);
  }
  return text;
}

void load_from(const SafetensorsFile& file, const std::string& prefix,
               const std::vector<NamedTensor>& destinations) {
  std::set<std::string> left, missing;
  for (const StoredTensor& stored : file.tensors()) {
    if (stored.name.starts_with(prefix)) left.insert(stored.name);
  }
  for (const NamedTensor& destination : destinations) {
    if (left.erase(prefix + destination.name) == 0) missing.insert(prefix + destination.name);
  }
  SLUICE_CHECK(missing.empty(), kCheckpoint, "{}: {} of the model's tensors are not in it: {}",
               file.path().string(), missing.size(), list_of(missing));
  SLUICE_CHECK(left.empty(), kCheckpoint, "{}: the model has no place for {} of its tensors: {}",
               file.path().string(), left.size(), list_of(left));
  for (const NamedTensor& destination : destinations) {
    file.load_into(prefix + destination.name, destination.tensor);
  }
}

}  // namespace

TrainerState read_trainer_state(const fs::path& checkpoint) {
  const fs::path path = checkpoint / "trainer" / "state.json";
  const Json json = read_json_file(path, ErrorKind::kCheckpoint);
  Problems problems;
  ObjectReader reader(json, "", problems);
  TrainerState state;
  state.step = reader.required_integer("step", 0);
  state.tokens = reader.required_integer("tokens", 0);
  state.cursor = reader.required_integer("cursor", 0);
  state.updates = reader.required_integer("updates", 0);
  state.skipped = reader.required_integer("skipped", 0);
  state.skipped_in_a_row = reader.required_integer("skipped_in_a_row", 0);
  state.log_bytes = reader.required_integer("log_bytes", 0);
  state.timing_bytes = reader.required_integer("timing_bytes", 0);
  state.seconds = reader.required_number("seconds", 0);
  state.data_fingerprint = read_fingerprint(reader, "data_fingerprint");
  reader.finish();
  problems.throw_if_any(path.string(), ErrorKind::kCheckpoint);
  return state;
}

Json read_checkpoint_run_config(const fs::path& checkpoint) {
  return read_json_file(checkpoint / "trainer" / "run.json", ErrorKind::kCheckpoint);
}

void load_named(const fs::path& file, const std::string& prefix,
                const std::vector<NamedTensor>& destinations) {
  load_from(SafetensorsFile(file), prefix, destinations);
}

void load_moments(const fs::path& checkpoint, const std::vector<NamedTensor>& first,
                  const std::vector<NamedTensor>& second) {
  const SafetensorsFile file(checkpoint / "trainer" / "optimizer.safetensors");
  for (const StoredTensor& stored : file.tensors()) {
    SLUICE_CHECK(stored.name.starts_with(kFirstMoment) || stored.name.starts_with(kSecondMoment), kCheckpoint,
                 "{}: tensor {} is neither a first nor a second moment", file.path().string(),
                 printable(stored.name));
  }
  load_from(file, kFirstMoment, first);
  load_from(file, kSecondMoment, second);
}

}  // namespace sluice
