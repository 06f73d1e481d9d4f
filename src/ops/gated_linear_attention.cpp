#include "ops/gated_linear_attention.h"

#include <cmath>
#include <optional>

#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "core/error.h"
#include "kernels/linear_attention/gated_linear_attention.h"
#include "ops/check.h"
#include "ops/sequence_part.h"
#include "ops/state_slots.h"
#include "tensor/launch.h"

namespace sluice::ops {
namespace {

constexpr const char* kOp = "gated_linear_attention";

enum class DecayKind { kNone, kChannels, kHeads, kConstant };

struct Sizes {
  DecayKind decay;
  int64_t tokens, heads, kv_heads, key_size, value_size;
  double scale;

  Shape state_shape(int64_t slots) const { return Shape{slots, kv_heads, key_size, value_size}; }
};

// What backward reads. The index arrays live here, beside the tensors they describe.
struct Saved {
  Sizes sizes;
  SequenceLayout layout;
  Tensor q, k, v;
  SavedTensor g;
  Tensor constant_g;
  Tensor chunk_states;            // on the CPU
  Tensor initial_state;           // on a GPU
  std::optional<StateFold> fold;  // of the parts of a sequence
};

DecayKind kind_of(const StateDecay& decay) {
  SLUICE_CHECK(decay.channels.defined() + decay.heads.defined() + decay.constant.defined() <= 1, kInternal,
               "[{}] expected decays of one kind", kOp);
  return decay.channels.defined()   ? DecayKind::kChannels
         : decay.heads.defined()    ? DecayKind::kHeads
         : decay.constant.defined() ? DecayKind::kConstant
                                    : DecayKind::kNone;
}

Sizes check(const Variable& q, const Variable& k, const Variable& v, const StateDecay& decay,
            const Variable& initial_state, const SequenceLayout& layout,
            const GatedLinearAttentionOptions& options) {
  const int64_t heads = options.heads, kv_heads = options.kv_heads;
  SLUICE_CHECK(kv_heads > 0 && heads > 0 && heads % kv_heads == 0, kInternal,
               "[{}] expected query heads to be a multiple of kv heads, got {} and {}", kOp, heads, kv_heads);
  require_rank(kOp, "q", q.value(), 2);
  SLUICE_CHECK(q.size(1) % heads == 0, kInternal, "[{}] expected q of shape [N, {} heads * K], got {}", kOp,
               heads, q.shape().to_string());
  require_rank(kOp, "v", v.value(), 2);
  SLUICE_CHECK(v.size(0) == q.size(0) && v.size(1) % kv_heads == 0, kInternal,
               "[{}] expected v of shape [{}, {} kv heads * V], got {}", kOp, q.size(0), kv_heads,
               v.shape().to_string());
  Sizes sizes{kind_of(decay), q.size(0), heads, kv_heads, q.size(1) / heads, v.size(1) / kv_heads, 1.0};
  SLUICE_CHECK(sizes.key_size > 0 && sizes.value_size > 0, kInternal,
               "[{}] expected heads of at least one column, got K {} and V {}", kOp, sizes.key_size,
               sizes.value_size);
  sizes.scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(sizes.key_size)));
  const Shape key_shape{sizes.tokens, kv_heads * sizes.key_size};
  require_shape(kOp, "k", k.value(), key_shape);
  require_like(kOp, "k", k.value(), q.value());
  require_like(kOp, "v", v.value(), q.value());
  if (const Variable& g = decay.channels; g.defined()) {
    require_shape(kOp, "g", g.value(), key_shape);
    require_like(kOp, "g", g.value(), q.value());
  }
  if (const Variable& g = decay.heads; g.defined()) {
    require_shape(kOp, "g", g.value(), Shape{sizes.tokens, kv_heads});
    require_like(kOp, "g", g.value(), q.value());
  }
  if (decay.constant.defined()) {
    require_shape(kOp, "g", decay.constant, Shape{kv_heads});
    require_exact(kOp, "g", decay.constant, q.value());
  }
  layout.validate(sizes.tokens);
  require_state(kOp, initial_state, sizes.state_shape(layout.slots), accumulate_dtype(q.dtype()));
  return sizes;
}

// Whether the kernel may write the final states over the initial ones: each of its threads then reads what
// it writes, and nothing else. On a GPU that is the step of generation.
bool ends_where_it_starts(const SequenceLayout& layout, Device device) {
  return layout.reuses_states && layout.state_in == layout.state_out &&
         (device == Device::kCpu || layout.longest() <= 1);
}

// What the two passes' parameters have in common.
template <class Params>
void fill_sizes(Params& p, const Sizes& sizes, const SequenceLayout& layout, Device device) {
  p.tokens = sizes.tokens, p.sequences = layout.sequences();
  p.heads = sizes.heads, p.kv_heads = sizes.kv_heads;
  p.key_size = sizes.key_size, p.value_size = sizes.value_size;
  p.scale = sizes.scale;
  const SequenceIndices& indices = layout.indices();
  p.offsets = indices.offsets.on(device);
  p.state_in = indices.state_in.on(device), p.state_out = indices.state_out.on(device);
  p.slots = layout.slots;
  p.chunk = kChunkTokens;
  p.chunks = indices.chunk_offsets.host().back();
  p.chunk_offsets = indices.chunk_offsets.on(device);
}

template <class T, class Params>
void fill_inputs(Params& p, const Sizes& sizes, const Tensor& q, const Tensor& k, const Tensor& v,
                 const Tensor& g, const Tensor& constant_g) {
  p.q = q.data<T>(), p.q_stride = q.row_stride();
  p.k = k.data<T>(), p.k_stride = k.row_stride();
  p.v = v.data<T>(), p.v_stride = v.row_stride();
  if (sizes.decay == DecayKind::kChannels) p.g = g.data<T>(), p.g_stride = g.row_stride();
  if (sizes.decay == DecayKind::kHeads) p.head_g = g.data<T>(), p.head_g_stride = g.row_stride();
  p.constant_g = data_or_null<kernels::accumulate_t<T>>(constant_g);
}

// Where the kernel, which cannot accumulate, writes an input's gradient: the input's own memory, or a fresh
// tensor that is added to it.
struct Gradient {
  GradientTarget target;
  Tensor written;

  static Gradient of(BackwardContext& context, int input) {
    if (!context.needs(input)) return {};
    const GradientTarget target = context.target(input);
    const Tensor& place = target.tensor;
    return {target, target.accumulate ? Tensor::empty(place.shape(), place.dtype(), place.device()) : place};
  }
  template <class T>
  T* data() const {
    return data_or_null<T>(written);
  }
  int64_t stride() const { return written.defined() ? written.row_stride() : 0; }
  void finish() const {
    if (target.accumulate) target.tensor.add_from(written);
  }
};

void run_backward(const Saved& saved, const Tensor& g, const Tensor& d_output, const Tensor& d_final,
                  const Gradient& dq, const Gradient& dk, const Gradient& dv, const Gradient& dg,
                  const Tensor& d_initial) {
  dispatch_floating(saved.q.dtype(), kOp, [&]<class T>() {
    kernels::GatedLinearAttentionBackward<T> p;
    fill_sizes(p, saved.sizes, saved.layout, saved.q.device());
    fill_inputs<T>(p, saved.sizes, saved.q, saved.k, saved.v, g, saved.constant_g);
    p.d_o = data_or_null<T>(d_output), p.d_o_stride = d_output.defined() ? d_output.row_stride() : 0;
    p.dq = dq.data<T>(), p.dq_stride = dq.stride();
    p.dk = dk.data<T>(), p.dk_stride = dk.stride();
    p.dv = dv.data<T>(), p.dv_stride = dv.stride();
    if (saved.sizes.decay == DecayKind::kHeads) {
      p.d_head_g = dg.data<T>(), p.d_head_g_stride = dg.stride();
    } else {
      p.dg = dg.data<T>(), p.dg_stride = dg.stride();
    }
    p.d_final_state = data_or_null<kernels::accumulate_t<T>>(d_final);
    p.initial_state = data_or_null<kernels::accumulate_t<T>>(saved.initial_state);
    p.d_initial_state = data_or_null<kernels::accumulate_t<T>>(d_initial);
    p.chunk_states = data_or_null<kernels::accumulate_t<T>>(saved.chunk_states);
    SLUICE_LAUNCH_WITH_SCRATCH(T, saved.q.device(), gated_linear_attention_backward, p);
  });
}

// What the later parts want of the state at the end of this one: each finds the gradient at its own start as
// if it were the last part, and these are folded.
Tensor gradient_from_later_parts(const Saved& saved, const Tensor& g, const Tensor& d_output,
                                 const Tensor& d_initial) {
  run_backward(saved, g, d_output, Tensor(), {}, {}, {}, {}, d_initial);
  return saved.fold->gradient_at_end(d_initial);
}

void backward(const Saved& saved, BackwardContext& context) {
  const Tensor g = saved.g.get();
  const Tensor& d_output = context.output_gradient(0);
  Tensor d_final = context.output_gradient(1).defined() ? context.output_gradient(1).contiguous() : Tensor();
  const Gradient dq = Gradient::of(context, 0), dk = Gradient::of(context, 1);
  const Gradient dv = Gradient::of(context, 2), dg = Gradient::of(context, 3);
  const Tensor d_initial = context.needs(4) || saved.fold
                               ? Tensor::empty(saved.sizes.state_shape(saved.layout.slots),
                                               accumulate_dtype(saved.q.dtype()), saved.q.device())
                               : Tensor();
  if (saved.fold) d_final = gradient_from_later_parts(saved, g, d_output, d_initial);
  run_backward(saved, g, d_output, d_final, dq, dk, dv, dg, context.needs(4) ? d_initial : Tensor());
  for (const Gradient* gradient : {&dq, &dk, &dv, &dg}) gradient->finish();
  if (context.needs(4)) context.add(4, d_initial);
}

// How the states of a sequence's parts connect.
StateFold fold_of(const Sizes& sizes, const Variable& g, const Tensor& constant_g, DType state_dtype,
                  Device device, const SequenceLayout& layout) {
  const bool by_channels = sizes.decay == DecayKind::kChannels || sizes.decay == DecayKind::kNone;
  const Tensor gates = constant_g.defined() ? constant_g.view(Shape{1, sizes.kv_heads})
                       : g.defined()        ? g.value()
                                            : Tensor();
  return StateFold(gates, by_channels ? sizes.kv_heads * sizes.key_size : sizes.kv_heads, state_dtype, device,
                   layout);
}

}  // namespace

GatedLinearAttentionResult gated_linear_attention(const Variable& q, const Variable& k, const Variable& v,
                                                  const Variable& g, const Variable& initial_state,
                                                  const SequenceLayout& layout,
                                                  const GatedLinearAttentionOptions& options) {
  return gated_linear_attention(q, k, v, StateDecay{g, {}, {}}, initial_state, layout, options);
}

GatedLinearAttentionResult gated_linear_attention(const Variable& q, const Variable& k, const Variable& v,
                                                  const StateDecay& decay, const Variable& initial_state,
                                                  const SequenceLayout& layout,
                                                  const GatedLinearAttentionOptions& options) {
  const Sizes sizes = check(q, k, v, decay, initial_state, layout, options);
  const Variable& g = decay.heads.defined() ? decay.heads : decay.channels;
  const Tensor constant_g = decay.constant.defined() ? decay.constant.contiguous() : Tensor();
  const auto fresh_states = [&](int64_t count) {
    return Tensor::empty(sizes.state_shape(count), accumulate_dtype(q.dtype()), q.device());
  };
  const Tensor output =
      Tensor::empty(Shape{sizes.tokens, sizes.heads * sizes.value_size}, q.dtype(), q.device());
  const bool is_part = layout.part != nullptr;
  SLUICE_CHECK(!is_part || (!initial_state.defined() && !options.want_final_state), kInternal,
               "[{}] a part of a sequence starts and ends in the state of the other parts", kOp);
  Tensor start = initial_state.defined() ? initial_state.value().contiguous() : Tensor();
  const bool recorded = Tape::would_record({q, k, v, g, initial_state});
  Tensor final_state;
  if (start.defined() && options.want_final_state && !recorded && ends_where_it_starts(layout, q.device())) {
    final_state = start;
  } else if (options.want_final_state || is_part) {
    final_state = fresh_states(layout.slots);
  }
  Tensor chunk_states;
  if (recorded) {
    if (initial_state.requires_grad()) require_slots_read_once(kOp, layout);
    // A GPU has arithmetic to spare and computes them again.
    if (q.device() == Device::kCpu) chunk_states = fresh_states(layout.indices().chunk_offsets.host().back());
  }
  const auto walk = [&](const Tensor& kept_states) {
    dispatch_floating(q.dtype(), kOp, [&]<class T>() {
      kernels::GatedLinearAttentionForward<T> p;
      p.longest = layout.indices().offsets.longest();
      fill_sizes(p, sizes, layout, q.device());
      fill_inputs<T>(p, sizes, q.value(), k.value(), v.value(), g.value(), constant_g);
      p.o = output.data<T>(), p.o_stride = output.row_stride();
      p.initial_state = data_or_null<kernels::accumulate_t<T>>(start);
      p.final_state = data_or_null<kernels::accumulate_t<T>>(final_state);
      p.chunk_states = data_or_null<kernels::accumulate_t<T>>(kept_states);
      SLUICE_LAUNCH_WITH_SCRATCH(T, q.device(), gated_linear_attention_forward, p);
    });
  };
  std::optional<StateFold> fold;
  if (is_part) {
    fold = fold_of(sizes, g, constant_g, final_state.dtype(), q.device(), layout);
    walk(Tensor());  // from zero
    start = fold->state_at_start(final_state);
  }
  walk(chunk_states);
  if (!recorded) return {Variable(output), is_part ? Variable() : Variable(final_state)};
  Saved saved{sizes,          layout,     q.value(),    k.value(), v.value(),
              SavedTensor(g), constant_g, chunk_states, start,     fold};
  const auto results =
      Tape::record(kOp, {q, k, v, g, initial_state}, {output, is_part ? Tensor() : final_state},
                   [saved = std::move(saved)](BackwardContext& context) { backward(saved, context); });
  return {results[0], results[1]};
}

}  // namespace sluice::ops
