// All parameters of a model in flat, aligned buffers: one for the compute weights, one for the fp32 master
// weights (the same one when computing in fp32 or fp64), one for gradients and two for AdamW's moments. A
// parameter is a view, so clipping, zeroing and the update are one pass each, and gradients arrive in place.
//
// Entries lie in reverse order of use, so that the gradients at the front are complete first during backward.
#pragma once

#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace sluice {

struct ArenaEntry {
  std::string name;
  Shape shape;
  bool decayed = true;  // whether weight decay applies
};

class ParameterArena {
 public:
  // `entries` in order of use. `dtype` is the compute type: f32 or f64 on the CPU, bf16 or f32 on a GPU.
  // Under bf16 everything but the compute weights is f32.
  ParameterArena(const std::vector<ArenaEntry>& entries, DType dtype, Device device);

  // Views of entry i (in the order given), shaped as the entry.
  Tensor weight(size_t i) const { return view(weights_, i); }
  Tensor master_weight(size_t i) const { return view(master_weights_, i); }
  Tensor gradient(size_t i) const { return view(gradients_, i); }
  Tensor first_moment(size_t i) const { return view(first_moments_, i); }
  Tensor second_moment(size_t i) const { return view(second_moments_, i); }

  // The flat buffers, padding included; padding stays zero.
  const Tensor& weights() const { return weights_; }
  const Tensor& master_weights() const { return master_weights_; }
  const Tensor& gradients() const { return gradients_; }
  const Tensor& first_moments() const { return first_moments_; }
  const Tensor& second_moments() const { return second_moments_; }

  // Rounds the compute weights from the master weights, after those were written from outside.
  void refresh_weights() const;

  struct Range {
    int64_t begin = 0;  // elements of the flat buffers
    int64_t end = 0;
    bool decayed = true;
  };
  const std::vector<Range>& ranges() const { return ranges_; }  // in the order given to the constructor
  int64_t elements() const { return elements_; }
  void zero_gradients() const { gradients_.fill_zero(); }

 private:
  Tensor view(const Tensor& flat, size_t i) const;

  std::vector<ArenaEntry> entries_;
  std::vector<Range> ranges_;
  int64_t elements_ = 0;
  Tensor weights_, master_weights_, gradients_, first_moments_, second_moments_;
};

}  // namespace sluice
