#include "model/model_weights.h"

#include <set>

#include "config/problems.h"
#include "model/weight_directory.h"

namespace sluice {
namespace {

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string with_ending(const std::string& name, std::string_view from, std::string_view to) {
  return name.substr(0, name.size() - from.size()) + std::string(to);
}

// The name a tensor has in the directory: its own, or that of the same norm under the other fuse_norm.
std::string stored_name(const WeightDirectory& directory, const std::string& name) {
  constexpr std::string_view kFused = ".g_norm_swish_gate.weight", kPlain = ".g_norm.weight";
  if (directory.has(name)) return name;
  if (ends_with(name, kFused)) return with_ending(name, kFused, kPlain);
  if (ends_with(name, kPlain)) return with_ending(name, kPlain, kFused);
  return name;
}

Shape to_shape(const std::vector<int64_t>& sizes) {
  Shape shape;
  for (const int64_t size : sizes) shape.append(size);
  return shape;
}

// Older files hold gate and up as one matrix under the gate's name, which is how the parameter lies in
// memory.
bool load_merged_gate_up(const WeightDirectory& directory, const nn::Parameter& parameter,
                         std::set<std::string>& used) {
  const auto& parts = parameter.parts();
  if (parts.size() != 2 || !ends_with(parts[0].name, ".mlp.gate_proj.weight") || directory.has(parts[1].name))
    return false;
  const std::string& name = parts[0].name;
  if (!directory.has(name) ||
      directory.shape(name) != std::vector<int64_t>{parameter.shape()[0], parameter.shape()[1]}) {
    return false;
  }
  directory.load_into(name, parameter.master());
  used.insert(name);
  return true;
}

void load_part(const WeightDirectory& directory, const nn::Parameter& parameter,
               const nn::CheckpointPart& part, std::set<std::string>& used, Problems& problems) {
  const std::string name = stored_name(directory, part.name);
  if (!directory.has(name)) return problems.add(part.name, "is missing");
  used.insert(name);
  const auto& stored = directory.shape(name);
  if (stored.size() > static_cast<size_t>(Shape::kMaxRank) || !(to_shape(stored) == part.shape)) {
    std::string text;
    for (const int64_t size : stored) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return problems.add(part.name,
                        fmt::format("has shape [{}], the model needs {}", text, part.shape.to_string()));
  }
  directory.load_into(name, parameter.part_of(parameter.master(), part));
}

}  // namespace

void load_weights(const LanguageModel& model, const WeightDirectory& directory) {
  Problems problems;
  std::set<std::string> used;
  for (const nn::Parameter* parameter : model.parameters()) {
    if (load_merged_gate_up(directory, *parameter, used)) continue;
    for (const nn::CheckpointPart& part : parameter->parts()) {
      load_part(directory, *parameter, part, used, problems);
    }
  }
  // Some writers store a tied projection twice.
  if (model.config().tie_word_embeddings) used.insert("lm_head.weight");
  for (const std::string& name : directory.names()) {
    if (!used.contains(name)) problems.add(name, "is not a tensor of this model");
  }
  problems.throw_if_any(directory.path().string(), ErrorKind::kCheckpoint);
}

std::vector<NamedTensor> named_weights(const LanguageModel& model) {
  return named_parts(model, [](const nn::Parameter& parameter) { return parameter.master(); });
}

}  // namespace sluice
