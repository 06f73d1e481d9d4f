#include "ops/softmax_attention.h"

#include <memory>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/attention/softmax_attention.h"
#include "ops/check.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

void check_offsets(const char* name, const std::vector<int64_t>& offsets, int64_t rows) {
  SLUICE_CHECK(!offsets.empty() && offsets.front() == 0 && offsets.back() == rows, kInternal,
               "[softmax_attention] expected {} from 0 to {}, got {}", name, rows,
               offsets.empty() ? "none" : fmt::format("{} to {}", offsets.front(), offsets.back()));
  for (size_t i = 1; i < offsets.size(); ++i) {
    SLUICE_CHECK(offsets[i - 1] <= offsets[i], kInternal,
                 "[softmax_attention] expected {} not to decrease, got {} after {}", name, offsets[i],
                 offsets[i - 1]);
  }
}

void check(const Tensor& q, const Tensor& k, const Tensor& v, const SoftmaxAttentionOptions& options) {
  require_rank("softmax_attention", "q", q, 2);
  require_rank("softmax_attention", "k", k, 2);
  require_like("softmax_attention", "k", k, q);
  require_like("softmax_attention", "v", v, q);
  SLUICE_CHECK(options.heads > 0 && options.kv_heads > 0 && options.heads % options.kv_heads == 0, kInternal,
               "[softmax_attention] expected heads as a multiple of kv_heads, got {} and {}", options.heads,
               options.kv_heads);
  SLUICE_CHECK(q.size(1) % options.heads == 0, kInternal,
               "[softmax_attention] expected q of shape [N, {} * D], got {}", options.heads,
               q.shape().to_string());
  const Shape keys{k.size(0), q.size(1) / options.heads * options.kv_heads};
  require_shape("softmax_attention", "k", k, keys);
  require_shape("softmax_attention", "v", v, keys);
  SLUICE_CHECK(options.window >= 0, kInternal, "[softmax_attention] expected window >= 0, got {}",
               options.window);
  check_offsets("q_offsets", options.q_offsets.host(), q.size(0));
  check_offsets("k_offsets", options.k_offsets.host(), k.size(0));
  SLUICE_CHECK(options.q_offsets.size() == options.k_offsets.size(), kInternal,
               "[softmax_attention] expected q_offsets and k_offsets of one length, got {} and {}",
               options.q_offsets.size(), options.k_offsets.size());
  for (int64_t s = 0; s + 1 < options.q_offsets.size(); ++s) {
    const int64_t queries = options.q_offsets[s + 1] - options.q_offsets[s];
    const int64_t available = options.k_offsets[s + 1] - options.k_offsets[s];
    SLUICE_CHECK(
        queries <= available, kInternal,
        "[softmax_attention] expected at least as many keys as queries, got {} keys and {} queries in "
        "sequence {}",
        available, queries, s);
  }
}

kernels::AttentionShape shape_of(const SoftmaxAttentionOptions& options, int64_t head_dim, Device device) {
  kernels::AttentionShape shape;
  shape.sequences = options.q_offsets.size() - 1;
  shape.q_offsets = options.q_offsets.on(device), shape.k_offsets = options.k_offsets.on(device);
  shape.longest_q = options.q_offsets.longest(), shape.longest_k = options.k_offsets.longest();
  shape.heads = options.heads, shape.kv_heads = options.kv_heads, shape.head_dim = head_dim;
  shape.window = options.window, shape.scale = options.scale;
  return shape;
}

// What backward reads.
struct Saved {
  SavedTensor q, k;
  Tensor v, o, lse;
  SoftmaxAttentionOptions options;
};

void backward(const Saved& s, BackwardContext& context) {
  const Tensor& d_o = context.output_gradient(0);
  const Tensor q = s.q.get(), k = s.k.get();
  const GradientTarget dq = context.needs(0) ? context.target(0) : GradientTarget{};
  const GradientTarget dk = context.needs(1) ? context.target(1) : GradientTarget{};
  const GradientTarget dv = context.needs(2) ? context.target(2) : GradientTarget{};
  const Tensor delta = Tensor::empty(s.lse.shape(), s.lse.dtype(), s.lse.device());
  const auto stride = [](const GradientTarget& target) {
    return target.tensor.defined() ? target.tensor.row_stride() : 0;
  };
  dispatch_floating(d_o.dtype(), "softmax_attention", [&]<class T>() {
    kernels::SoftmaxAttentionBackward<T> p;
    p.shape = shape_of(s.options, q.size(1) / s.options.heads, d_o.device());
    p.q = q.data<T>(), p.q_stride = q.row_stride();
    p.k = k.data<T>(), p.k_stride = k.row_stride();
    p.v = s.v.data<T>(), p.v_stride = s.v.row_stride();
    p.o = s.o.data<T>(), p.o_stride = s.o.row_stride();
    p.lse = s.lse.data<kernels::accumulate_t<T>>(), p.delta = delta.data<kernels::accumulate_t<T>>();
    p.d_o = d_o.data<T>(), p.d_o_stride = d_o.row_stride();
    p.dq = data_or_null<T>(dq.tensor), p.dq_stride = stride(dq), p.accumulate_dq = dq.accumulate;
    p.dk = data_or_null<T>(dk.tensor), p.dk_stride = stride(dk), p.accumulate_dk = dk.accumulate;
    p.dv = data_or_null<T>(dv.tensor), p.dv_stride = stride(dv), p.accumulate_dv = dv.accumulate;
    SLUICE_LAUNCH_WITH_SCRATCH(T, d_o.device(), softmax_attention_backward, p);
  });
}

}  // namespace

Variable softmax_attention(const Variable& q, const Variable& k, const Variable& v,
                           const SoftmaxAttentionOptions& options) {
  check(q.value(), k.value(), v.value(), options);
  const bool recorded = Tape::would_record({q, k, v});
  const Tensor o = Tensor::empty(q.shape(), q.dtype(), q.device());
  const Tensor lse =
      recorded ? Tensor::empty(Shape{q.size(0), options.heads}, accumulate_dtype(q.dtype()), q.device())
               : Tensor();
  dispatch_floating(q.dtype(), "softmax_attention", [&]<class T>() {
    kernels::SoftmaxAttentionForward<T> p;
    p.shape = shape_of(options, q.size(1) / options.heads, q.device());
    p.q = q.value().data<T>(), p.q_stride = q.value().row_stride();
    p.k = k.value().data<T>(), p.k_stride = k.value().row_stride();
    p.v = v.value().data<T>(), p.v_stride = v.value().row_stride();
    p.o = o.data<T>(), p.o_stride = o.row_stride();
    p.lse = data_or_null<kernels::accumulate_t<T>>(lse);
    SLUICE_LAUNCH_WITH_SCRATCH(T, q.device(), softmax_attention_forward, p);
  });
  if (!recorded) return Variable(o);
  const auto saved =
      std::make_shared<const Saved>(Saved{SavedTensor(q), SavedTensor(k), v.value(), o, lse, options});
  return Tape::record_one("softmax_attention", {q, k, v}, o,
                          [saved](BackwardContext& context) { backward(*saved, context); });
}

}  // namespace sluice::ops
