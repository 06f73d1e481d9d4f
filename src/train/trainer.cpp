#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tensor/device.h"
#include "train/sequence_group.h"

namespace sluice {
namespace {

// Of gradients that are summed at once while backward goes on: enough to use the network well, and not so
// many buckets that starting them counts.
constexpr int64_t kBucketBytes = int64_t{25} << 20, kMostBuckets = 64;

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

std::unique_ptr<ParameterArena> place_in_arena(const LanguageModel& model, const RunConfig& run,
                                               const Communicator& communicator) {
  const auto parameters = model.parameters();
  std::vector<ArenaEntry> entries;
  for (const nn::Parameter* parameter : parameters) {
    entries.push_back({parameter->name(), parameter->shape(), is_decayed(*parameter, run.optimizer),
                       parameter->is_exact()});
  }
  ArenaShards shards;
  if (run.parallel.zero > 0) shards = {communicator.world_size(), communicator.rank()};
  auto arena =
      std::make_unique<ParameterArena>(entries, compute_dtype(run.train), compute_device(run.train), shards);
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i]->bind(arena->weight(i), arena->gradient(i),
                        arena->has_whole_masters() ? arena->master_weight(i) : Tensor());
  }
  return arena;
}

std::unique_ptr<GradientReducer> make_reducer(const LanguageModel& model, const ParameterArena& arena,
                                              Communicator& communicator) {
  std::vector<GradientReducer::Range> ranges;
  for (const ParameterArena::Range& range : arena.ranges()) ranges.push_back({range.begin, range.end});
  const bool shared = !arena.has_whole_moments();
  const int64_t bucket = std::max(kBucketBytes / size_of(arena.gradients().dtype()),
                                  (arena.elements() + kMostBuckets - 1) / kMostBuckets);
  auto reducer = std::make_unique<GradientReducer>(
      communicator, arena.gradients(), ranges, shared ? arena.bucket_elements() : bucket,
      shared ? GradientReducer::Result::kOwnSlices : GradientReducer::Result::kAll);
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
  options.rank = rank / run.parallel.sequence;
  options.world_size = run.parallel.data_ranks();
  for (const DataSource& source : run.data.train) options.sources.push_back({source.path, source.weight});
  options.sequence_length = run.train.sequence_length;
  options.rows = run.train.micro_batch_sequences;
  options.vocabulary_size = model.vocab_size;
  options.shuffle = run.data.shuffle;
  options.seed = run.data.seed;
  options.document_token = run.data.document_token ? run.data.document_token : model.bos_token_id;
  options.reset_at_documents = run.data.reset_state_at_document;
  options.labels_from_token = run.data.labels_from_token;
  options.labels_from_position = run.data.labels_from_position;
  options.prefetch = run.data.prefetch;
  return options;
}

}  // namespace

Trainer::Trainer(const RunConfig& run, const ModelConfig& model, Communicator& communicator)
    : run_(with_world_size(run, communicator)),
      one_micro_batch_(accumulation_steps(run_) == 1),
      communicator_(communicator),
      model_(std::make_unique<LanguageModel>(model)),
      faults_(FaultPlan::from_environment()) {
  arena_ = place_in_arena(*model_, run, communicator_);
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
  feed_ = std::make_unique<BatchFeed>(*loader_, run_, device, part_of_sequences());
  // What ranks exchange in a forward pass is not recorded.
  const bool static_shapes = !run.data.reset_state_at_document && run.parallel.sequence == 1;
  const bool records = device == Device::kCuda && run.train.cuda_graph && static_shapes;
  micro_steps_ = std::make_unique<MicroStepGraph>(
      records, [this](const MicroBatch& batch, double labels) { forward_backward(batch, labels); });
  last_micro_steps_ = std::make_unique<MicroStepGraph>(
      records,
      [this](const MicroBatch& batch, double labels) { forward_backward(batch, labels, reducer_.get()); });
  loss_ = Tensor::zeros(Shape{}, arena_->master_weights().dtype(), device);
  one_ = Tensor::from<float>(Shape{}, {1.0f}).to(loss_.dtype()).to(device);
  const Tensor masters =
      fill_masters(device, [&](const LanguageModel& m) { m.initialize_weights(run.train.seed); });
  if (masters.defined()) keep_slices(masters);
  if (arena_->has_whole_moments()) return;
  gathered_.resize(static_cast<size_t>(arena_->buckets()), communicator_.mark());
  const auto parameters = model_->parameters();
  for (size_t i = 0; i < parameters.size(); ++i)
    parameters[i]->set_use_hook([this, range = arena_->ranges()[i]] { await_weights(range); });
}

std::shared_ptr<const ops::SequencePart> Trainer::part_of_sequences() const {
  const int64_t parts = run_.parallel.sequence;
  if (parts == 1) return nullptr;
  SLUICE_CHECK(communicator_.world_size() % parts == 0 && run_.train.sequence_length % parts == 0, kUsage,
               "parallel.sequence is {}, which must divide the {} processes and train.sequence_length {}",
               parts, communicator_.world_size(), run_.train.sequence_length);
  return std::make_shared<SequenceGroup>(communicator_, static_cast<int>(parts));
}

double Trainer::flops_per_token() const {
  return 3.0 * model_->forward_flops_per_token(run_.train.sequence_length);
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
      train.micro_batch_sequences * train.sequence_length * config.parallel.data_ranks();
  return train.global_batch_tokens == 0 ? 1 : train.global_batch_tokens / micro_batches;
}

}  // namespace sluice
