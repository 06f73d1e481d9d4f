#include "apps/config_reference.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/key_recorder.h"
#include "config/run_config.h"
#include "mixers/registry.h"
#include "model/model_config.h"

namespace sluice {
namespace {

using Facts = std::vector<KeyFact>;

// A section is a key under which others were asked for.
bool is_section(const KeyFact& fact, const Facts& facts) {
  return std::any_of(facts.begin(), facts.end(),
                     [&](const KeyFact& other) { return other.path.starts_with(fact.path + "."); });
}

bool is_ignored(const std::string& path) {  // written by other programs, without a meaning here
  for (const char* key : {"architectures", "torch_dtype", "dtype", "transformers_version", "_name_or_path",
                          "return_dict", "output_attentions", "output_hidden_states"}) {
    if (path == std::string("model.") + key) return true;
  }
  return false;
}

Facts run_facts() {
  const KeyRecorder recorder;
  Problems ignored;
  parse_run_config(Json::object(), "", ignored);
  Facts facts;
  for (const KeyFact& fact : recorder.facts()) {
    if (!is_section(fact, recorder.facts())) facts.push_back(fact);
  }
  return facts;
}

Facts model_facts(const std::string& family) {
  const KeyRecorder recorder;
  Problems ignored;
  read_model_config(Json{{"model_type", family}}, "model", UnknownKeys::kRefuse, ignored);
  Facts facts;
  for (const KeyFact& fact : recorder.facts()) {
    if (!is_ignored(fact.path)) facts.push_back(fact);
  }
  return facts;
}

class Page {
 public:
  // Rows of the keys below `section` ("" for the file itself); a description is found under `described` +
  // key.
  void table(const std::string& title, const Facts& facts, const std::string& section,
             const std::string& described) {
    text_ += fmt::format("\n## {}\n\n| key | type | default | meaning |\n|---|---|---|---|\n", title);
    for (const KeyFact& fact : facts) {
      const size_t dot = fact.path.rfind('.');
      const std::string parent = dot == std::string::npos ? "" : fact.path.substr(0, dot);
      if (parent != section) continue;
      row(fact, dot == std::string::npos ? fact.path : fact.path.substr(dot + 1), described);
    }
  }

  void add(const std::string& text) { text_ += text; }

  const std::string& text() const { return text_; }

 private:
  void row(const KeyFact& fact, const std::string& key, const std::string& described) {
    const std::string path = described + key;
    const auto meaning = describe_key(path);
    SLUICE_CHECK(meaning, kInternal,
                 "config reference: {} has no description; write one in config_descriptions.cpp", path);
    std::string type = fact.type == "any" ? "see right" : fact.type;
    if (!fact.bounds.empty()) type = fact.type == "string" ? fact.bounds : type + ", " + fact.bounds;
    const std::string fallback = fact.required        ? "required"
                                 : fact.type == "any" ? ""
                                                      : fmt::format("`{}`", fact.fallback);
    text_ += fmt::format("| `{}` | {} | {} | {} |\n", key, type, fallback, *meaning);
  }

  std::string text_;
};

bool holds(const Facts& facts, const std::string& path) {
  return std::any_of(facts.begin(), facts.end(), [&](const KeyFact& fact) { return fact.path == path; });
}

}  // namespace

std::string config_reference() {
  Page page;
  page.add(
      "# Every key of a run\n\n"
      "Written by `train --print-config-reference` from what the programs read; do not edit it. Unknown "
      "keys, wrong "
      "types and combinations that make no sense are errors. `train --print-config` prints a run with every "
      "default, "
      "and `--set optimizer.lr=1e-3` changes a key for one start.\n");
  const Facts run = run_facts();
  page.table("The file", run, "", "");
  for (const char* section : {"data", "optimizer", "schedule", "train", "checkpoint", "log", "parallel"})
    page.table(fmt::format("`{}`", section), run, section, std::string(section) + ".");

  std::vector<std::pair<std::string, Facts>> families;
  for (const MixerFamily& family : mixer_families())
    families.emplace_back(family.model_type, model_facts(family.model_type));
  Facts shared;
  for (const KeyFact& fact : families[0].second) {
    if (!describe_key("model." + families[0].first + fact.path.substr(5))) shared.push_back(fact);
  }
  page.table("`model`, of every family", shared, "model", "model.");
  for (const auto& [name, facts] : families) {
    Facts own;
    for (const KeyFact& fact : facts) {
      if (!holds(shared, fact.path)) own.push_back(fact);
    }
    page.table(fmt::format("`model`, of `{}`", name), own, "model", "model." + name + ".");
  }
  return page.text();
}

}  // namespace sluice
