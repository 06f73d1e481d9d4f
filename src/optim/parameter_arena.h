// All parameters of a model in flat, aligned buffers: one for the compute weights, one for the fp32 master
// weights (the same one when computing in fp32 or fp64), one for gradients and two for AdamW's moments. A
// parameter is a view, so clipping, zeroing and the update are one pass each, and gradients arrive in place.
//
// Entries lie in reverse order of use, so that the gradients at the front are complete first during backward.
//
// Several ranks may share the optimizer's state (ZeRO stage 1, Rajbhandari et al. 2020, arXiv 1910.02054):
// the buffers are cut into equal buckets, each bucket into a slice for every rank, and a rank has moments,
// and master weights where they are not the compute weights, of its own slices alone.
#pragma once

#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace sluice {

struct ArenaEntry {
  std::string name;
  Shape shape;
  bool decayed = true;  // whether weight decay applies
  bool exact = false;   // whether layers compute with the master weight itself
};

// Which part of the optimizer's state this rank keeps; by default all of it, in one bucket.
struct ArenaShards {
  int count = 1;
  int mine = 0;
};

class ParameterArena {
 public:
  // `entries` in order of use. `dtype` is the compute type: f32 or f64 on the CPU, bf16 or f32 on a GPU.
  // Under bf16 everything but the compute weights is f32.
  ParameterArena(const std::vector<ArenaEntry>& entries, DType dtype, Device device, ArenaShards shards = {});

  // Views of entry i (in the order given), shaped as the entry: what layers compute with, and so on. Of
  // master weights and moments only where they are whole.
  Tensor weight(size_t i) const;
  Tensor master_weight(size_t i) const { return view(master_weights_, i); }
  Tensor gradient(size_t i) const { return view(gradients_, i); }
  Tensor first_moment(size_t i) const { return view(first_moments_, i); }
  Tensor second_moment(size_t i) const { return view(second_moments_, i); }
  // The same of any flat tensor of elements().
  Tensor view(const Tensor& flat, size_t i) const;

  const ArenaShards& shards() const { return shards_; }
  bool has_whole_moments() const { return shards_.count == 1; }
  bool has_whole_masters() const { return shards_.count == 1 || weights_.same_view(master_weights_); }
  int64_t buckets() const { return buckets_; }
  int64_t bucket_elements() const { return elements_ / buckets_; }
  int64_t slice_elements() const { return bucket_elements() / shards_.count; }
  // Of any flat tensor of elements(): bucket b; and the slices of rank `shard`, [buckets(), slice_elements()]
  // with a stride, the same elements in the same order as in its flat buffers of slices.
  Tensor bucket(const Tensor& flat, int64_t b) const;
  Tensor slices(const Tensor& flat, int shard) const;

  // The flat buffers, padding included; padding stays zero. Master weights and moments are this rank's slices
  // where they are not whole.
  const Tensor& weights() const { return weights_; }
  const Tensor& master_weights() const { return master_weights_; }
  const Tensor& gradients() const { return gradients_; }
  const Tensor& first_moments() const { return first_moments_; }
  const Tensor& second_moments() const { return second_moments_; }

  // Rounds the compute weights from the master weights, which are whole, after those were written from
  // outside.
  void refresh_weights() const;
  // Where ranks have slices of the master weights: copies of the exact entries, to be summed over the ranks
  // after put_own_exact_weights(), which leaves zeros where the slices of others go. Undefined elsewhere.
  const Tensor& exact_weights() const { return exact_weights_; }
  void put_own_exact_weights() const;
  // Equal for arenas whose entries have the same names and places: flat buffers of one fit the other, up to
  // the padding at the end.
  std::string layout_fingerprint() const;

  struct Range {
    int64_t begin = 0;  // elements of the flat buffers
    int64_t end = 0;
    bool decayed = true;
  };
  const std::vector<Range>& ranges() const { return ranges_; }  // in the order given to the constructor
  int64_t elements() const { return elements_; }
  void zero_gradients() const { gradients_.fill_zero(); }

 private:
  void pad_to_buckets(int64_t width);
  void place_exact_weights();

  std::vector<ArenaEntry> entries_;
  std::vector<Range> ranges_;
  ArenaShards shards_;
  int64_t elements_ = 0;
  int64_t buckets_ = 1;
  std::vector<int64_t> exact_begin_;  // of each entry in exact_weights_
  Tensor exact_weights_;
  Tensor weights_, master_weights_, gradients_, first_moments_, second_moments_;
};

}  // namespace sluice
