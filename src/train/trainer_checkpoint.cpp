// A trainer's state from and to checkpoints, and from rank to rank.
#include <algorithm>
#include <array>
#include <map>

#include "core/error.h"
#include "model/model_weights.h"
#include "model/weight_directory.h"
#include "train/checkpoint_read.h"
#include "train/moments_names.h"
#include "train/trainer.h"
#include "train/weight_hash.h"

namespace sluice {
namespace {

// Views of a flat tensor under the checkpoint names of the parameters.
std::vector<NamedTensor> named_views(const LanguageModel& model, const ParameterArena& arena,
                                     const Tensor& flat) {
  size_t index = 0;
  return named_parts(model, [&](const nn::Parameter&) { return arena.view(flat, index++); });
}

// This rank's slice of a bucket.
Tensor own_slice(const ParameterArena& arena, const Tensor& bucket) {
  return bucket.narrow(0, arena.shards().mine * arena.slice_elements(), arena.slice_elements());
}
// Bucket b's place in a flat tensor of this rank's slices.
Tensor kept_slice(const ParameterArena& arena, const Tensor& kept, int64_t b) {
  return kept.narrow(0, b * arena.slice_elements(), arena.slice_elements());
}

}  // namespace

Tensor Trainer::fill_masters(Device device, const std::function<void(const LanguageModel&)>& fill) {
  if (arena_->has_whole_masters()) {
    fill(*model_);
    arena_->refresh_weights();
    return {};
  }
  const LanguageModel model(model_->config());
  const Tensor masters = Tensor::zeros({arena_->elements()}, arena_->master_weights().dtype(), device);
  const auto parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i]->bind(arena_->view(masters, i), Tensor());
  fill(model);
  return masters;
}

void Trainer::keep_slices(const Tensor& masters) {
  arena_->master_weights()
      .view({arena_->buckets(), arena_->slice_elements()})
      .copy_from(arena_->slices(masters, arena_->shards().mine));
  arena_->weights().copy_from(masters);
  gather_exact_weights();
}

// Each rank has slices of them; adding zeros of the other ranks changes no bit.
void Trainer::gather_exact_weights() const {
  if (!arena_->exact_weights().defined()) return;
  arena_->put_own_exact_weights();
  communicator_.all_reduce_sum(arena_->exact_weights());
}

void Trainer::initialize_from(const std::filesystem::path& directory) {
  settle_weights();
  loaded_masters_ = fill_masters(
      Device::kCpu, [&](const LanguageModel& model) { load_weights(model, WeightDirectory(directory)); });
}

void Trainer::restore(const std::filesystem::path& checkpoint) {
  initialize_from(checkpoint);
  Moments moments = read_moments(checkpoint, *model_, *arena_);
  if (arena_->has_whole_moments()) {
    arena_->first_moments().copy_from(moments.first);
    arena_->second_moments().copy_from(moments.second);
  } else {
    loaded_moments_ = std::move(moments);
  }
  const uint64_t fingerprint = state_.data_fingerprint;
  state_ = read_trainer_state(checkpoint);
  state_.data_fingerprint = fingerprint;
  optimizer_->set_updates(state_.updates);
  feed_->seek(state_.cursor);
  labels_.reset();
}

void Trainer::share() {
  if (communicator_.world_size() == 1) return;
  settle_weights();
  struct Message {
    TrainerState state;
    bool has_masters, has_moments;
  };
  const Message root =
      communicator_.all_gather(Message{state_, loaded_masters_.defined(), loaded_moments_.has_value()})[0];
  if (arena_->has_whole_masters()) {
    communicator_.broadcast(arena_->master_weights(), 0);
    arena_->refresh_weights();
  } else if (root.has_masters) {
    share_masters();
  }
  if (arena_->has_whole_moments()) {
    communicator_.broadcast(arena_->first_moments(), 0);
    communicator_.broadcast(arena_->second_moments(), 0);
  } else if (root.has_moments) {
    share_moments();
  }
  const uint64_t fingerprint = state_.data_fingerprint;
  state_ = root.state;
  state_.data_fingerprint = fingerprint;
  optimizer_->set_updates(state_.updates);
  feed_->seek(state_.cursor);
  labels_.reset();
}

// Rank 0's flat tensor `whole`, on the CPU and undefined elsewhere, goes to all bucket by bucket.
void Trainer::hand_out(const Tensor& whole,
                       const std::function<void(int64_t bucket, const Tensor&)>& take) const {
  const Tensor bucket =
      Tensor::empty({arena_->bucket_elements()}, arena_->first_moments().dtype(), arena_->weights().device());
  for (int64_t b = 0; b < arena_->buckets(); ++b) {
    if (whole.defined()) bucket.copy_from(arena_->bucket(whole, b));
    communicator_.broadcast(bucket, 0);
    take(b, bucket);
  }
}

void Trainer::share_masters() {
  hand_out(loaded_masters_, [&](int64_t b, const Tensor& bucket) {
    kept_slice(*arena_, arena_->master_weights(), b).copy_from(own_slice(*arena_, bucket));
    arena_->bucket(arena_->weights(), b).copy_from(bucket);
  });
  loaded_masters_ = {};
  gather_exact_weights();
}

void Trainer::share_moments() {
  const auto keep_in = [&](const Tensor& kept) {
    return [this, kept](int64_t b, const Tensor& bucket) {
      kept_slice(*arena_, kept, b).copy_from(own_slice(*arena_, bucket));
    };
  };
  hand_out(loaded_moments_ ? loaded_moments_->first : Tensor(), keep_in(arena_->first_moments()));
  hand_out(loaded_moments_ ? loaded_moments_->second : Tensor(), keep_in(arena_->second_moments()));
  loaded_moments_.reset();
}

void Trainer::require_equal_weights() {
  if (communicator_.world_size() == 1) return;
  settle_weights();
  const auto hashes = communicator_.all_gather(hash_of_weights(arena_->weights()));
  std::map<uint64_t, int> counts;
  for (const uint64_t hash : hashes) ++counts[hash];
  if (counts.size() == 1) return;
  const World& world = communicator_.world();
  int most = 0;
  uint64_t usual = 0;
  for (const auto& [hash, count] : counts) {
    if (count > most) most = count, usual = hash;
  }
  std::string others;
  for (int rank = 0; rank < world.world_size; ++rank) {
    // Two that differ do not tell which is right.
    if (2 * most > world.world_size && hashes[static_cast<size_t>(rank)] == usual) continue;
    others += (others.empty() ? "" : ", ") + world.name_of(rank);
  }
  SLUICE_FAIL(
      kNumerics,
      "after step {} the weights are not the same on all ranks: look at memory and network of {}, and go "
      "on from the last checkpoint",
      state_.step, others);
}

std::vector<NamedTensor> Trainer::gather_weights() const {
  settle_weights();
  if (arena_->has_whole_masters()) return named_weights(*model_);
  const bool root = communicator_.is_root();
  const DType dtype = arena_->master_weights().dtype();
  const Tensor whole = root ? Tensor::empty({arena_->elements()}, dtype, Device::kCpu) : Tensor();
  const Tensor bucket = Tensor::empty({arena_->bucket_elements()}, dtype, arena_->weights().device());
  for (int64_t b = 0; b < arena_->buckets(); ++b) {
    own_slice(*arena_, bucket).copy_from(kept_slice(*arena_, arena_->master_weights(), b));
    communicator_.start_all_gather(bucket);
    communicator_.wait();
    if (root) arena_->bucket(whole, b).copy_from(bucket);
  }
  return root ? named_views(*model_, *arena_, whole) : std::vector<NamedTensor>();
}

bool Trainer::weights_are_finite() const {
  settle_weights();
  const bool mine = optimizer_->count_non_finite(arena_->master_weights()) == 0;
  if (!shares_moments()) return mine;
  const auto all = communicator_.all_gather(static_cast<int>(mine));
  return std::find(all.begin(), all.end(), 0) == all.end();
}

std::vector<NamedTensor> Trainer::first_moments() const {
  return named_views(*model_, *arena_, arena_->first_moments());
}

std::vector<NamedTensor> Trainer::second_moments() const {
  return named_views(*model_, *arena_, arena_->second_moments());
}

std::vector<ManifestFile> Trainer::write_moments(const std::filesystem::path& directory) const {
  std::array<char, 4096> text{};
  const std::string name = directory.empty() ? "" : std::filesystem::absolute(directory).string();
  SLUICE_CHECK(name.size() < text.size(), kCheckpoint, "{}: this path is too long to be shared", name);
  std::copy(name.begin(), name.end(), text.begin());
  const std::filesystem::path shared = communicator_.all_gather(text)[0].data();
  SLUICE_CHECK(std::filesystem::exists(shared), kCheckpoint,
               "{}: {} does not see it. With parallel.zero every rank writes its part of a checkpoint, so "
               "train.output_dir must be on a file system that all hosts share",
               shared.string(), communicator_.world().name_of(communicator_.rank()));
  struct Written {
    int64_t bytes;
    std::array<char, 64> sha256;
  };
  const ManifestFile mine = write_moments_shard(shared, *arena_);
  Written written{mine.bytes, {}};
  SLUICE_ASSERT(mine.sha256.size() == written.sha256.size());
  std::copy(mine.sha256.begin(), mine.sha256.end(), written.sha256.begin());
  std::vector<ManifestFile> files;
  for (const Written& one : communicator_.all_gather(written)) {
    files.push_back({moments_shard_name(static_cast<int>(files.size()), communicator_.world_size()),
                     one.bytes, std::string(one.sha256.data(), one.sha256.size())});
  }
  return files;
}

}  // namespace sluice
