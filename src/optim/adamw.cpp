#include "optim/adamw.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/optim/adamw.h"
#include "kernels/optim/squared_norm.h"

namespace sluice {

double gradient_norm(const ParameterArena& arena) {
  double sum = 0;
  int64_t non_finite = 0;
  dispatch_compute(arena.gradients().dtype(), "gradient_norm", [&]<class T>() {
    kernels::SquaredNormParams<T> p;
    p.count = arena.elements();
    p.x = arena.gradients().data<T>();
    p.sum = &sum;
    p.non_finite = &non_finite;
    kernels::cpu::squared_norm(p);
  });
  return non_finite > 0 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(sum);
}

double clipping_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1.0; }

void AdamW::step(double learning_rate, double gradient_factor) {
  ++updates_;
  const auto t = static_cast<double>(updates_);
  std::vector<kernels::AdamWSegment> segments;
  for (const ParameterArena::Range& range : arena_.ranges()) {
    segments.push_back({range.begin, range.end, range.decayed ? options_.weight_decay : 0.0});
  }
  dispatch_compute(arena_.weights().dtype(), "adamw", [&]<class T>() {
    kernels::AdamWParams<T> p;
    p.weight = arena_.weights().data<T>();
    p.gradient = arena_.gradients().data<T>();
    p.m = arena_.first_moments().data<T>();
    p.v = arena_.second_moments().data<T>();
    p.segments = segments.data();
    p.segment_count = static_cast<int64_t>(segments.size());
    p.lr = learning_rate;
    p.beta1 = options_.beta1, p.beta2 = options_.beta2, p.eps = options_.eps;
    p.correction1 = 1.0 - std::pow(options_.beta1, t);
    p.correction2 = 1.0 - std::pow(options_.beta2, t);
    p.gradient_factor = gradient_factor;
    kernels::cpu::adamw(p);
  });
}

}  // namespace sluice
