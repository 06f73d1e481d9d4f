#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/model_weights.h"
#include "model/weight_directory.h"
#include "tensor/device.h"
#include "train/checkpoint_store.h"

namespace sluice {
namespace {

bool is_decayed(const nn::Parameter& parameter, const OptimizerConfig& config) {
  switch (parameter.role()) {
    case nn::ParameterRole::kMatrix:
    case nn::ParameterRole::kConvolution:
      return true;
    case nn::ParameterRole::kEmbedding:
      return config.decay_embeddings;
    case nn::ParameterRole::kNorm:
    case nn::ParameterRole::kBias:
      return config.decay_norms_and_biases;
  }
  return true;
}

std::unique_ptr<ParameterArena> place_in_arena(const LanguageModel& model, const RunConfig& run) {
  const auto parameters = model.parameters();
  std::vector<ArenaEntry> entries;
  for (const nn::Parameter* parameter : parameters) {
    entries.push_back({parameter->name(), parameter->shape(), is_decayed(*parameter, run.optimizer)});
  }
  auto arena = std::make_unique<ParameterArena>(entries, compute_dtype(run.train), compute_device(run.train));
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i]->bind(arena->weight(i), arena->gradient(i), arena->master_weight(i));
  }
  return arena;
}

std::unique_ptr<GradientReducer> make_reducer(const LanguageModel& model, const ParameterArena& arena,
                                              Communicator& communicator) {
  std::vector<GradientReducer::Range> ranges;
  for (const ParameterArena::Range& range : arena.ranges()) ranges.push_back({range.begin, range.end});
  auto reducer = std::make_unique<GradientReducer>(communicator, arena.gradients(), ranges);
  if (communicator.world_size() == 1) return reducer;
  const auto parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    Variable variable = parameters[i]->variable();  // copies share the hook
    variable.set_gradient_hook([to = reducer.get(), i] { to->mark_ready(i); });
  }
  return reducer;
}

RunConfig with_world_size(RunConfig run, const Communicator& communicator) {
  const int64_t expected = run.parallel.world_size;
  SLUICE_CHECK(expected == 0 || expected == communicator.world_size(), kUsage,
               "parallel.world_size is {}, but there are {} processes", expected, communicator.world_size());
  run.parallel.world_size = communicator.world_size();
  return run;
}

LoaderOptions loader_options(const RunConfig& run, const ModelConfig& model, int rank) {
  LoaderOptions options;
  options.rank = rank;
  options.world_size = run.parallel.world_size;
  for (const DataSource& source : run.data.train) options.sources.push_back({source.path, source.weight});
  options.sequence_length = run.train.sequence_length;
  options.rows = run.train.micro_batch_sequences;
  options.vocabulary_size = model.vocab_size;
  options.shuffle = run.data.shuffle;
  options.seed = run.data.seed;
  options.document_token = run.data.document_token ? run.data.document_token : model.bos_token_id;
  options.reset_at_documents = run.data.reset_state_at_document;
  options.prefetch = run.data.prefetch;
  return options;
}

// The moments of every parameter under its checkpoint names.
template <class View>
std::vector<NamedTensor> named_moments(const LanguageModel& model, View&& view) {
  size_t index = 0;
  return named_parts(model, [&](const nn::Parameter&) { return view(index++); });
}

}  // namespace

Trainer::Trainer(const RunConfig& run, const ModelConfig& model, Communicator& communicator)
    : run_(with_world_size(run, communicator)),
      communicator_(communicator),
      model_(std::make_unique<LanguageModel>(model)),
      faults_(FaultPlan::from_environment()) {
  arena_ = place_in_arena(*model_, run);
  SLUICE_CHECK(
      run.train.segments == 1 || model_->trains_with_state(), kUsage,
      "train.segments is {}, but softmax attention layers cannot be trained over a carried state; use "
      "train.segments 1, or a model whose layers all have a recurrent state",
      run.train.segments);
  reducer_ = make_reducer(*model_, *arena_, communicator_);
  optimizer_ = std::make_unique<AdamW>(
      *arena_, AdamWOptions{run.optimizer.beta1, run.optimizer.beta2, run.optimizer.eps,
                            run.optimizer.weight_decay, run.optimizer.grad_clip});
  loader_ = std::make_unique<Loader>(loader_options(run_, model, communicator_.rank()));
  state_.data_fingerprint = loader_->fingerprint();
  const Device device = model_->device();
  feed_ = std::make_unique<BatchFeed>(*loader_, run_, device);
  const bool static_shapes = !run.data.reset_state_at_document;
  micro_steps_ = std::make_unique<MicroStepGraph>(
      device == Device::kCuda && run.train.cuda_graph && static_shapes,
      [this](const MicroBatch& batch, double labels) { forward_backward(batch, labels); });
  loss_ = Tensor::zeros(Shape{}, arena_->master_weights().dtype(), device);
  one_ = Tensor::from<float>(Shape{}, {1.0f}).to(loss_.dtype()).to(device);
  model_->initialize_weights(run.train.seed);
  arena_->refresh_weights();
}

double Trainer::flops_per_token() const {
  return 3.0 * model_->forward_flops_per_token(run_.train.sequence_length);
}

void Trainer::initialize_from(const std::filesystem::path& directory) {
  load_weights(*model_, WeightDirectory(directory));
  arena_->refresh_weights();
}

void Trainer::restore(const std::filesystem::path& checkpoint) {
  initialize_from(checkpoint);
  load_moments(checkpoint, first_moments(), second_moments());
  const uint64_t fingerprint = state_.data_fingerprint;
  state_ = read_trainer_state(checkpoint);
  state_.data_fingerprint = fingerprint;
  optimizer_->set_updates(state_.updates);
  feed_->seek(state_.cursor);
  labels_.reset();
}

void Trainer::share() {
  if (communicator_.world_size() == 1) return;
  for (const Tensor& buffer : {arena_->master_weights(), arena_->first_moments(), arena_->second_moments()}) {
    communicator_.broadcast(buffer, 0);
  }
  arena_->refresh_weights();
  const uint64_t fingerprint = state_.data_fingerprint;
  state_ = communicator_.all_gather(state_)[0];
  state_.data_fingerprint = fingerprint;
  optimizer_->set_updates(state_.updates);
  feed_->seek(state_.cursor);
  labels_.reset();
}

std::vector<NamedTensor> Trainer::first_moments() const {
  return named_moments(*model_, [&](size_t i) { return arena_->first_moment(i); });
}

std::vector<NamedTensor> Trainer::second_moments() const {
  return named_moments(*model_, [&](size_t i) { return arena_->second_moment(i); });
}

bool Trainer::weights_are_finite() const {
  return optimizer_->count_non_finite(arena_->master_weights()) == 0;
}

Device compute_device(const TrainConfig& config) {
  if (config.device == "cpu") return Device::kCpu;
  std::string why_not;
  if (is_available(Device::kCuda, &why_not)) return Device::kCuda;
  SLUICE_CHECK(config.device == "auto", kUsage, "train.device is \"cuda\", but {}; use \"cpu\" or \"auto\"",
               why_not);
  return Device::kCpu;
}

DType compute_dtype(const TrainConfig& config) {
  const Device device = compute_device(config);
  if (config.dtype == "auto") return device == Device::kCuda ? DType::kBF16 : DType::kF32;
  const DType dtype = parse_dtype(config.dtype);
  SLUICE_CHECK(device == Device::kCuda || dtype != DType::kBF16, kUsage,
               "train.dtype \"{}\" needs a GPU; the CPU computes in float32 or float64", config.dtype);
  SLUICE_CHECK(device == Device::kCpu || dtype != DType::kF64, kUsage,
               "train.dtype \"{}\" needs train.device cpu; a GPU computes in bfloat16 or float32",
               config.dtype);
  return dtype;
}

int64_t accumulation_steps(const RunConfig& config) {
  const TrainConfig& train = config.train;
  const int64_t micro_batches =
      train.micro_batch_sequences * train.sequence_length * std::max<int64_t>(1, config.parallel.world_size);
  return train.global_batch_tokens == 0 ? 1 : train.global_batch_tokens / micro_batches;
}

}  // namespace sluice
