// The residual stream between the parts of a layer.
#pragma once

#include "ops/residual.h"

namespace sluice::nn {

// What a mixer or feed-forward layer adds to the residual stream: input W^T, not yet multiplied, so that the
// product can add itself to the stream before it is rounded. Undefined before the first layer.
struct Branch {
  ops::ProductInput input;  // [N, in], or what a gated activation makes that of
  Variable weight;          // [hidden, in]

  bool defined() const { return input.tensor.defined(); }
  Variable product() const;  // by itself
};

struct ResidualStream {
  Variable hidden;  // [N, hidden], without `branch`
  Branch branch;    // to be added by whoever looks at the stream next

  // The same stream with nothing left to add.
  ResidualStream settled() const;
};

}  // namespace sluice::nn
