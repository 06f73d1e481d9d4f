// The operations of a training step, each as a function of random inputs with the FLOPs and bytes it cannot
// do without.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace sluice::bench {

struct KernelSizes {
  int64_t sequences = 4, length = 256;  // of equal length, packed
  int64_t hidden = 256;                 // C; the feed-forward width is 3 C
  int64_t heads = 4;                    // of linear attention: K = C / 2 / heads, V = C / heads
  int64_t head_size = 64;               // of softmax attention
  int64_t vocabulary = 8192;
};

struct KernelInput {
  Shape shape;
  double scale = 1.0, shift = 0.0;  // of standard normal values
  bool is_weight = false;           // its gradient is kept in f32
  bool is_exact = false;            // f32 where the compute type is bf16: residual streams, norms' scales
};

struct KernelCase {
  std::string name;
  std::vector<KernelInput> inputs;
  std::function<Variable(const std::vector<Variable>&)> run;
  double flops = 0;     // forward
  double elements = 0;  // read and written once, forward, in the compute type
};

std::vector<KernelCase> kernel_cases(const KernelSizes& sizes, DType dtype, Device device);

}  // namespace sluice::bench
