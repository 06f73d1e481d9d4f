// AdamW with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) over a parameter arena.
#pragma once

#include "optim/parameter_arena.h"

namespace sluice {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // of the entries that decay
};

// The 2-norm of all gradients, summed in double in a fixed order; not finite when any gradient is not.
double gradient_norm(const ParameterArena& arena);

// The factor that brings a gradient of this norm to at most `limit`; 1 when clipping is off (limit 0).
double clipping_factor(double norm, double limit);

class AdamW {
 public:
  AdamW(ParameterArena& arena, const AdamWOptions& options) : arena_(arena), options_(options) {}

  // One update with the arena's gradients times `gradient_factor`.
  void step(double learning_rate, double gradient_factor);

  // Updates made: the t of the bias corrections. Part of a checkpoint.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  ParameterArena& arena_;
  AdamWOptions options_;
  int64_t updates_ = 0;
};

}  // namespace sluice
