#include "train/run_checkpoint.h"

#include <nlohmann/json.hpp>

#include "core/log.h"
#include "data/tokenizer.h"
#include "train/checkpoint_contents.h"
#include "train/checkpoint_writer.h"

namespace sluice {
namespace {

CheckpointOptions store_options(const RunConfig& run, const FaultPlan& faults) {
  CheckpointOptions options;
  options.keep_last = run.checkpoint.keep_last;
  options.keep_every = run.checkpoint.keep_every;
  options.verify = run.checkpoint.verify == "size" ? VerifyLevel::kSize : VerifyLevel::kFull;
  options.during_save = [&faults] { faults.during_save(); };
  return options;
}

Json generation_config(const ModelConfig& model) {
  Json json{{"_from_model_config", true}};
  if (model.bos_token_id) json["bos_token_id"] = *model.bos_token_id;
  if (model.eos_token_id) json["eos_token_id"] = *model.eos_token_id;
  return json;
}

// Weights and both moments, and a little for the small files.
int64_t checkpoint_bytes(const Trainer& trainer) {
  constexpr int64_t kSmallFiles = int64_t{1} << 20;
  const int64_t width = size_of(trainer.arena().master_weights().dtype());
  return 3 * trainer.model().parameter_count() * width + kSmallFiles;
}

}  // namespace

RunCheckpoints::RunCheckpoints(const RunConfig& run, const ModelConfig& model)
    : run_(run),
      model_(model),
      faults_(FaultPlan::from_environment()),
      store_(std::filesystem::path(run.train.output_dir) / "checkpoints", store_options(run, faults_)) {}

std::filesystem::path RunCheckpoints::find(const std::string& resume) {
  if (resume != "auto" && resume != "never") return CheckpointStore::resolve(resume);
  const auto present = store_.list();
  if (present.empty()) return {};
  SLUICE_CHECK(
      resume == "auto", kUsage,
      "--resume never, but {} holds checkpoints already ({}); choose another train.output_dir or remove them",
      store_.directory().string(), present.front().filename().string());
  std::string report;
  const auto found = store_.newest_valid(report);
  if (!report.empty()) log::warning("{}", report);
  SLUICE_CHECK(
      found.has_value(), kCheckpoint,
      "{}: none of the {} checkpoints can be used; remove them to start anew, or name one with --resume",
      store_.directory().string(), present.size());
  return found->directory;
}

void RunCheckpoints::start(Trainer& trainer, const std::string& resume) {
  store_.clean_up();
  const std::filesystem::path checkpoint = find(resume);
  if (!checkpoint.empty()) {
    const uint64_t fingerprint = trainer.state().data_fingerprint;
    if (read_trainer_state(checkpoint).data_fingerprint != fingerprint) {
      log::warning(
          "the training data is not what {} was trained on; the run goes on, but is no longer the run it was",
          checkpoint.string());
    }
    trainer.restore(checkpoint);
    log::info("resumed from {} after step {}, {} tokens", checkpoint.string(), trainer.state().step,
              trainer.state().tokens);
  } else if (!run_.train.init_from.empty()) {
    const auto directory = CheckpointStore::resolve(run_.train.init_from);
    trainer.initialize_from(directory);
    log::info("weights from {}", directory.string());
  }
  const std::string warning = store_.check_space(checkpoint_bytes(trainer));
  if (!warning.empty()) log::warning("{}", warning);
}

void RunCheckpoints::save(const Trainer& trainer, const TrainerState& state) {
  CheckpointContents contents;
  contents.model_config = to_hugging_face_json(
      model_, trainer.arena().master_weights().dtype() == DType::kF64 ? "float64" : "float32");
  contents.generation_config = generation_config(model_);
  contents.weights = trainer.gather_weights();
  contents.poisoned = !trainer.weights_are_finite();
  if (trainer.shares_moments()) {
    contents.write_moments = [&](const std::filesystem::path& directory) {
      return trainer.write_moments(directory);
    };
    contents.written_moments_bytes = 2 * checkpoint_bytes(contents);
  } else {
    contents.first_moments = trainer.first_moments();
    contents.second_moments = trainer.second_moments();
  }
  contents.state = state;
  contents.run_config = to_json(run_);
  if (!run_.data.tokenizer.empty()) {
    contents.tokenizer_files.push_back({run_.data.tokenizer, "tokenizer.model"});
    const Tokenizer tokenizer(run_.data.tokenizer);
    const auto piece = [&](int32_t id) { return id >= 0 ? tokenizer.piece(id) : std::string(); };
    contents.special_pieces = {piece(tokenizer.bos_id()), piece(tokenizer.eos_id()),
                               piece(tokenizer.unk_id())};
  }
  if (contents.poisoned)
    log::error("the weights hold numbers that are not finite; the checkpoint is kept but never resumed from");
  const auto path = store_.save(contents);
  log::info("saved {}", path.string());
}

void RunCheckpoints::assist(const Trainer& trainer) {
  if (!trainer.shares_moments()) return;
  trainer.gather_weights();
  trainer.weights_are_finite();
  trainer.write_moments({});
}

}  // namespace sluice
