#include <limits>

#include "config/object_reader.h"
#include "config/overrides.h"
#include "config/run_config.h"
#include "config/run_config_check.h"
#include "config/run_config_names.h"

namespace sluice {
namespace {

constexpr int64_t kMaxCount =
    std::numeric_limits<int32_t>::max();  // of things held at once, and of token ids

// A number above 0, which the inclusive bounds of number() cannot say.
double positive_number(ObjectReader& reader, std::string_view key, double fallback) {
  const double value = reader.number(key, fallback, 0);
  if (value > 0) return value;
  reader.problem(key, "expected a number above 0, got 0");
  return fallback;
}

// A number in [0, 1).
double fraction_below_one(ObjectReader& reader, std::string_view key, double fallback) {
  const double value = reader.number(key, fallback, 0, 1);
  if (value < 1) return value;
  reader.problem(key, "expected a number from 0 to below 1, got 1");
  return fallback;
}

template <class Enum>
Enum enumerator(ObjectReader& reader, std::string_view key, Enum fallback) {
  return value_of_name<Enum>(reader.choice(key, name_of_value(fallback), names_of(fallback)));
}

DataSource read_source(const Json& value, const std::string& path, Problems& problems) {
  DataSource source;
  if (value.is_string()) {
    source.path = value.get<std::string>();
    if (source.path.empty()) problems.add(path, "expected a path, got the empty string");
    return source;
  }
  if (!value.is_object()) {
    problems.add(path, fmt::format("expected a path or {{\"path\", \"weight\"}}, got {}", describe(value)));
    return source;
  }
  ObjectReader reader(value, path, problems);
  source.path = reader.required_text("path");
  if (reader.has("path") && value["path"] == "") {
    reader.problem("path", "expected a path, got the empty string");
  }
  source.weight = positive_number(reader, "weight", source.weight);
  reader.finish();
  return source;
}

// "path", ["path", ...] or [{"path", "weight"}, ...].
std::vector<DataSource> read_sources(ObjectReader& reader, std::string_view key, Problems& problems) {
  std::vector<DataSource> sources;
  const Json* value = reader.raw(key);
  if (!value) return sources;
  const std::string path = reader.path_of(key);
  if (value->is_string()) return {read_source(*value, path, problems)};
  if (!value->is_array()) {
    problems.add(path, fmt::format("expected a path or a list of paths, got {}", describe(*value)));
    return sources;
  }
  for (size_t i = 0; i < value->size(); ++i) {
    sources.push_back(read_source((*value)[i], fmt::format("{}.{}", path, i), problems));
  }
  return sources;
}

DataConfig read_data(ObjectReader reader, Problems& problems) {
  DataConfig data;
  data.train = read_sources(reader, "train", problems);
  if (data.train.empty() && !problems.concerns("data.train")) {
    reader.problem("train", reader.has("train") ? "empty; at least one path of token shards is needed"
                                                : "required, but missing; name the token shards to train on");
  }
  data.validation = read_sources(reader, "validation", problems);
  data.tokenizer = reader.text("tokenizer", data.tokenizer);
  data.shuffle = reader.boolean("shuffle", data.shuffle);
  data.seed = reader.unsigned_integer("seed", data.seed);
  data.reset_state_at_document = reader.boolean("reset_state_at_document", data.reset_state_at_document);
  data.document_token = reader.optional_integer("document_token", 0, kMaxCount);
  data.prefetch = reader.integer("prefetch", data.prefetch, 1, kMaxCount);
  data.labels_from_token = reader.integer("labels_from_token", data.labels_from_token, 0, kMaxCount);
  data.labels_from_position = reader.integer("labels_from_position", data.labels_from_position, 0);
  reader.finish();
  return data;
}

OptimizerConfig read_optimizer(ObjectReader reader) {
  OptimizerConfig optimizer;
  optimizer.name = reader.choice("name", optimizer.name, {"adamw"});
  optimizer.lr = positive_number(reader, "lr", optimizer.lr);
  optimizer.beta1 = fraction_below_one(reader, "beta1", optimizer.beta1);
  optimizer.beta2 = fraction_below_one(reader, "beta2", optimizer.beta2);
  optimizer.eps = positive_number(reader, "eps", optimizer.eps);
  optimizer.weight_decay = reader.number("weight_decay", optimizer.weight_decay, 0);
  optimizer.decay_embeddings = reader.boolean("decay_embeddings", optimizer.decay_embeddings);
  optimizer.decay_norms_and_biases =
      reader.boolean("decay_norms_and_biases", optimizer.decay_norms_and_biases);
  optimizer.grad_clip = reader.number("grad_clip", optimizer.grad_clip, 0);
  reader.finish();
  return optimizer;
}

ScheduleConfig read_schedule(ObjectReader reader) {
  ScheduleConfig schedule;
  schedule.kind = enumerator(reader, "kind", schedule.kind);
  schedule.warmup_steps = reader.integer("warmup_steps", schedule.warmup_steps, 0);
  schedule.initial_ratio = reader.number("initial_ratio", schedule.initial_ratio, 0, 1);
  schedule.final_ratio = reader.number("final_ratio", schedule.final_ratio, 0, 1);
  schedule.decay_fraction = reader.number("decay_fraction", schedule.decay_fraction, 0, 1);
  reader.finish();
  return schedule;
}

TrainConfig read_train(ObjectReader reader) {
  TrainConfig train;
  train.steps = reader.required_integer("steps", 1);
  train.sequence_length = reader.required_integer("sequence_length", 1);
  train.micro_batch_sequences =
      reader.integer("micro_batch_sequences", train.micro_batch_sequences, 1, kMaxCount);
  train.global_batch_tokens = reader.integer("global_batch_tokens", train.global_batch_tokens, 0);
  train.segments = reader.integer("segments", train.segments, 1, kMaxCount);
  train.recompute = enumerator(reader, "recompute", train.recompute);
  train.seed = reader.unsigned_integer("seed", train.seed);
  train.device = reader.choice("device", train.device, {"auto", "cpu", "cuda"});
  train.dtype = reader.choice("dtype", train.dtype, {"auto", "float32", "bfloat16", "float64"});
  train.cuda_graph = reader.boolean("cuda_graph", train.cuda_graph);
  train.threads = reader.integer("threads", train.threads, 0, kMaxCount);
  train.output_dir = reader.text("output_dir", train.output_dir);
  train.init_from = reader.text("init_from", train.init_from);
  train.nonfinite = reader.choice("nonfinite", train.nonfinite, {"skip", "stop"});
  train.nonfinite_limit = reader.integer("nonfinite_limit", train.nonfinite_limit, 1);
  train.validate_every = reader.integer("validate_every", train.validate_every, 0);
  train.validate_sequences = reader.integer("validate_sequences", train.validate_sequences, 1);
  train.sample_every = reader.integer("sample_every", train.sample_every, 0);
  train.sample_tokens = reader.integer("sample_tokens", train.sample_tokens, 1, kMaxCount);
  train.sample_prompts = reader.text_list("sample_prompts", train.sample_prompts);
  train.sample_temperature = reader.number("sample_temperature", train.sample_temperature, 0);
  reader.finish();
  return train;
}

CheckpointConfig read_checkpoint(ObjectReader reader) {
  CheckpointConfig checkpoint;
  checkpoint.every = reader.integer("every", checkpoint.every, 0);
  checkpoint.every_minutes = reader.number("every_minutes", checkpoint.every_minutes, 0);
  checkpoint.keep_last = reader.integer("keep_last", checkpoint.keep_last, 2);
  checkpoint.keep_every = reader.integer("keep_every", checkpoint.keep_every, 0);
  checkpoint.verify = reader.choice("verify", checkpoint.verify, {"full", "size"});
  reader.finish();
  return checkpoint;
}

LogConfig read_log(ObjectReader reader) {
  LogConfig log;
  log.every = reader.integer("every", log.every, 1);
  log.tensorboard = reader.boolean("tensorboard", log.tensorboard);
  log.progress = reader.choice("progress", log.progress, {"auto", "on", "off"});
  reader.finish();
  return log;
}

ParallelConfig read_parallel(ObjectReader reader) {
  ParallelConfig parallel;
  parallel.world_size = reader.integer("world_size", parallel.world_size, 0, kMaxCount);
  parallel.zero = reader.integer("zero", parallel.zero, 0, 1);
  parallel.sequence = reader.integer("sequence", parallel.sequence, 1, kMaxCount);
  parallel.check_weights_every = reader.integer("check_weights_every", parallel.check_weights_every, 0);
  parallel.start_seconds = positive_number(reader, "start_seconds", parallel.start_seconds);
  parallel.first_step_seconds = reader.number("first_step_seconds", parallel.first_step_seconds, 0);
  parallel.step_seconds = reader.number("step_seconds", parallel.step_seconds, 0);
  parallel.validate_seconds = reader.number("validate_seconds", parallel.validate_seconds, 0);
  parallel.save_seconds = reader.number("save_seconds", parallel.save_seconds, 0);
  reader.finish();
  return parallel;
}

// "model": "file.json" becomes what the file holds; relative to the run's folder first, then to ours.
void load_model_file(Json& root, const std::filesystem::path& run, Problems& problems) {
  const auto model = root.find("model");
  if (model == root.end() || !model->is_string()) return;
  const std::filesystem::path given = model->get<std::string>();
  const std::filesystem::path beside = run.parent_path() / given;
  std::error_code code;
  const std::filesystem::path& chosen = std::filesystem::exists(beside, code) ? beside : given;
  *model = Json::object();
  if (!std::filesystem::exists(chosen, code)) {
    problems.add("model",
                 fmt::format("no file {}, neither beside the run's file nor in the working directory",
                             printable(given.string(), 200)));
    return;
  }
  try {
    *model = read_json_file(chosen, ErrorKind::kUsage);
  } catch (const Error& error) {
    problems.add("model", error.what());
  }
}

Json read_with_overrides(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                         Problems& problems) {
  Json root = read_json_file(path, ErrorKind::kUsage);
  SLUICE_CHECK(root.is_object(), kUsage, "{}: a run is a JSON object, this is {}", path.string(),
               describe(root));
  for (const std::string& text : overrides) {
    try {
      // A change inside the model needs the model, not the name of its file.
      if (parse_override(text).path.starts_with("model.")) load_model_file(root, path, problems);
      apply_override(root, text);
    } catch (const Error& error) {
      problems.add("--set", error.what());
    }
  }
  load_model_file(root, path, problems);
  return root;
}

std::vector<std::string> paths_of_known_keys() {
  std::vector<std::string> paths;
  const Json defaults = to_json(RunConfig{});
  for (const auto& [section, keys] : defaults.items()) {
    paths.push_back(section);
    if (!keys.is_object()) continue;
    for (const auto& [key, value] : keys.items()) paths.push_back(section + "." + key);
  }
  return paths;
}

}  // namespace

RunConfig read_run_config(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                          Problems& problems) {
  return parse_run_config(read_with_overrides(path, overrides, problems), path.stem().string(), problems);
}

RunConfig parse_run_config(const Json& root, const std::string& default_name, Problems& problems) {
  const std::vector<std::string> known_paths = paths_of_known_keys();
  ObjectReader reader(root, "", problems, known_paths);
  RunConfig config;
  config.name = reader.text("name", default_name);
  if (config.name.empty()) reader.problem("name", "expected a name, got the empty string");
  if (const Json* model = reader.raw("model"); model && model->is_object()) {
    config.model = *model;
  } else {
    config.model = Json::object();
    reader.problem("model",
                   model ? fmt::format("expected an object or the path of a file, got {}", describe(*model))
                         : "required, but missing; give a model's config.json or the path of one");
  }
  config.data = read_data(reader.object("data"), problems);
  config.optimizer = read_optimizer(reader.object("optimizer"));
  config.schedule = read_schedule(reader.object("schedule"));
  config.train = read_train(reader.object("train"));
  config.checkpoint = read_checkpoint(reader.object("checkpoint"));
  config.log = read_log(reader.object("log"));
  config.parallel = read_parallel(reader.object("parallel"));
  if (config.train.output_dir.empty()) config.train.output_dir = "runs/" + config.name;
  reader.finish();
  check_run_config(config, problems);
  return config;
}

}  // namespace sluice
