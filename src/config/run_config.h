// A run: what `train --config FILE` reads. Required in the file are `model`, `data.train`, `train.steps` and
// `train.sequence_length`; every other key has the default that stands here. `model` is the Hugging Face
// config.json of the family and is read by src/model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>  // RunConfig holds a Json by value
#include <optional>
#include <string>
#include <vector>

#include "config/json.h"
#include "config/problems.h"

namespace sluice {

struct DataSource {
  std::string path;     // a shard, a directory or a glob pattern of shards, or a Megatron prefix
  double weight = 1.0;  // share of the mix, relative to the other sources
};

struct DataConfig {
  std::vector<DataSource> train;       // "path", ["path", ...] or [{"path", "weight"}, ...]
  std::vector<DataSource> validation;  // same forms; empty: no validation
  std::string tokenizer;               // sentencepiece model, copied into checkpoints; needed for samples
  bool shuffle = true;
  uint64_t seed = 0;  // of the order in which sequences are visited
  bool reset_state_at_document = false;
  std::optional<int64_t> document_token;  // first token of each document; default: the model's bos_token_id
  int64_t prefetch = 4;                   // batches prepared ahead
  // Labels below this id, and those in front of this position of a sequence, are not learned; 0: all are.
  int64_t labels_from_token = 0;
  int64_t labels_from_position = 0;
};

struct OptimizerConfig {
  std::string name = "adamw";  // the only one
  double lr = 3e-4;            // peak learning rate
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  bool decay_embeddings = false;  // else embeddings and the output projection tied to them are not decayed
  bool decay_norms_and_biases = false;
  double grad_clip = 1.0;  // global norm; 0 switches clipping off
};

enum class ScheduleKind { kCosine, kLinear, kConstant, kWsd };

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::kCosine;  // "cosine", "linear", "constant", "wsd"
  int64_t warmup_steps = 0;
  double initial_ratio = 0.0;   // lr at step 0 over the peak; warm-up is linear from it
  double final_ratio = 0.1;     // lr at the last step over the peak
  double decay_fraction = 0.1;  // wsd: share of all steps spent decaying at the end
};

enum class Recompute { kNone, kSelective, kLayer };

struct TrainConfig {
  int64_t steps = 0;                  // required, >= 1
  int64_t sequence_length = 0;        // required; tokens of one training sequence, over all its segments
  int64_t micro_batch_sequences = 1;  // sequences of one forward and backward
  int64_t global_batch_tokens = 0;    // 0: one micro batch; otherwise a multiple of micro batch x length
  int64_t segments = 1;  // truncated backpropagation: the sequence in n parts, state carried over
  Recompute recompute = Recompute::kNone;
  uint64_t seed = 0;               // of the initial weights and of samples
  std::string device = "auto";     // "auto", "cpu", "cuda"
  std::string dtype = "auto";      // compute type: "auto", "float32", "bfloat16", "float64"
  bool cuda_graph = true;          // launch a micro step as one recorded graph where shapes are static
  int64_t threads = 0;             // CPU threads; 0: all cores
  std::string output_dir;          // default, filled in on reading: runs/<name>
  std::string init_from;           // Hugging Face directory whose weights the run starts from
  std::string nonfinite = "skip";  // "skip" the step, or "stop"
  int64_t nonfinite_limit = 10;    // stop with exit code 17 after so many skipped steps in a row
  int64_t validate_every = 0;      // steps; 0: never
  int64_t validate_sequences = 64;
  int64_t sample_every = 0;  // steps; 0: never
  int64_t sample_tokens = 64;
  std::vector<std::string> sample_prompts = {""};
  double sample_temperature = 0.8;
};

struct CheckpointConfig {
  int64_t every = 1000;         // steps; 0: only at the end and on a signal
  double every_minutes = 0;     // 0: off
  int64_t keep_last = 2;        // >= 2
  int64_t keep_every = 0;       // steps; checkpoints at multiples are kept for good
  std::string verify = "full";  // "full": sizes and hashes before loading; "size": sizes only
};

struct LogConfig {
  int64_t every = 1;  // steps between log lines
  bool tensorboard = true;
  std::string progress = "auto";  // "auto", "on", "off"
};

struct ParallelConfig {
  int64_t world_size = 0;  // processes expected, another number is an error; 0: as many as are started
  // 1: each rank keeps and updates its share of the optimizer's state (ZeRO stage 1); 0: every rank all of it
  int64_t zero = 0;
  // So many ranks share each sequence, every one of them an equal part of its length; the others train on
  // other sequences.
  int64_t sequence = 1;
  int64_t check_weights_every = 1000;  // steps between comparisons of all ranks' weights; 0: never
  // How long ranks may be at one thing; after that the watchdog ends the job with 124. 0: for ever.
  double start_seconds = 300;  // to meet, agree and load, each
  double first_step_seconds = 300;
  double step_seconds = 100;  // or 20 times the median of recent steps, where that is longer
  double validate_seconds = 1800;
  double save_seconds = 600;

  // Groups of ranks that train on sequences of their own.
  int64_t data_ranks() const { return std::max<int64_t>(1, world_size / sequence); }
};

struct RunConfig {
  std::string name;  // "name" of the file; default: stem of the file name
  Json model;        // object
  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  CheckpointConfig checkpoint;
  LogConfig log;
  ParallelConfig parallel;
};

// Reads a run from `path` with `overrides` ("optimizer.lr=1e-3", value in JSON, or a bare word for a string)
// applied on top. "model" may be an object or the path of a file, taken relative to the config file first,
// then to the working directory. Problems of every section but `model` are added to `problems`, never thrown;
// a file that is no JSON object throws Error(kUsage). Other paths are taken as they are, relative to the
// working directory, and not looked up. Where problems were added, the result is not to be used.
RunConfig read_run_config(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                          Problems& problems);
// The same of a file's content, in which "model" is an object.
RunConfig parse_run_config(const Json& root, const std::string& default_name, Problems& problems);

// The whole run with every default written out; reading it again gives the same run.
Json to_json(const RunConfig& config);

}  // namespace sluice
