#include "train/optimizer_shards.h"

#include <algorithm>

#include "core/error.h"
#include "model/model_weights.h"
#include "model/safetensors.h"
#include "train/checkpoint_read.h"
#include "train/moments_names.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFirst = "first_moment";
constexpr const char* kSecond = "second_moment";
// Of a shard's metadata: the layout of the flat buffers it is cut from.
constexpr const char* kLayout = "layout";

// The flat tensor of whoever wrote the shards, in its rank's slices.
void load_slices(const SafetensorsFile& file, const char* name, int rank, int ranks, Tensor& flat,
                 DType dtype) {
  const std::vector<int64_t>& shape = file.find(name).shape;
  SLUICE_CHECK(shape.size() == 2, kCheckpoint, "{}: {} has {} dimensions instead of buckets and elements",
               file.path().string(), name, shape.size());
  const int64_t buckets = shape[0], slice = shape[1];
  if (!flat.defined()) flat = Tensor::zeros({buckets * slice * ranks}, dtype, Device::kCpu);
  SLUICE_CHECK(flat.numel() == buckets * slice * ranks, kCheckpoint,
               "{}: {} slices of {} elements, other than in the first file", file.path().string(), buckets,
               slice);
  file.load_into(name, flat.view({buckets, slice * ranks}).columns(rank * slice, slice));
}

Tensor refitted(const Tensor& flat, const ParameterArena& arena) {
  const Tensor fitted = Tensor::zeros({arena.elements()}, flat.dtype(), Device::kCpu);
  const int64_t common = std::min(flat.numel(), fitted.numel());
  fitted.narrow(0, 0, common).copy_from(flat.narrow(0, 0, common));
  return fitted;
}

Moments read_shards(const fs::path& checkpoint, int ranks, const ParameterArena& arena) {
  const DType dtype = arena.first_moments().dtype();
  Moments read;
  for (int rank = 0; rank < ranks; ++rank) {
    const SafetensorsFile file(checkpoint / moments_shard_name(rank, ranks));
    const auto layout = file.metadata().find(kLayout);
    SLUICE_CHECK(layout != file.metadata().end() && layout->second == arena.layout_fingerprint(), kCheckpoint,
                 "{}: holds the moments of another model, or of a program that lays them out otherwise",
                 file.path().string());
    load_slices(file, kFirst, rank, ranks, read.first, dtype);
    load_slices(file, kSecond, rank, ranks, read.second, dtype);
  }
  return {refitted(read.first, arena), refitted(read.second, arena)};
}

Moments read_whole(const fs::path& checkpoint, const LanguageModel& model, const ParameterArena& arena) {
  const auto zeros = [&] {
    return Tensor::zeros({arena.elements()}, arena.first_moments().dtype(), Device::kCpu);
  };
  const Moments read{zeros(), zeros()};
  const auto named = [&](const Tensor& flat) {
    size_t index = 0;
    return named_parts(model, [&](const nn::Parameter&) { return arena.view(flat, index++); });
  };
  load_moments(checkpoint, named(read.first), named(read.second));
  return read;
}

}  // namespace

ManifestFile write_moments_shard(const fs::path& directory, const ParameterArena& arena) {
  const std::string name = moments_shard_name(arena.shards().mine, arena.shards().count);
  const auto slices = [&](const Tensor& moments) {
    return moments.view({arena.buckets(), arena.slice_elements()}).to(Device::kCpu);
  };
  SafetensorsOptions options;
  options.sync = true;
  options.metadata[kLayout] = arena.layout_fingerprint();
  const std::vector<NamedTensor> tensors = {{kFirst, slices(arena.first_moments())},
                                            {kSecond, slices(arena.second_moments())}};
  const WrittenFile written = write_safetensors(directory / name, tensors, options);
  return {name, written.bytes, written.sha256};
}

Moments read_moments(const fs::path& checkpoint, const LanguageModel& model, const ParameterArena& arena) {
  if (fs::exists(checkpoint / kWholeMomentsFile)) return read_whole(checkpoint, model, arena);
  for (const auto& entry : fs::directory_iterator(checkpoint / "trainer")) {
    const auto ranks = moments_shards_of("trainer/" + entry.path().filename().string());
    if (ranks) return read_shards(checkpoint, *ranks, arena);
  }
  SLUICE_FAIL(kCheckpoint, "{}: holds no moments of the optimizer", (checkpoint / "trainer").string());
}

}  // namespace sluice
