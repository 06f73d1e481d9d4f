#include "kernels/linear_attention/gated_linear_attention_plan.h"

#include <fmt/core.h>

#include <type_traits>

#include "core/error.h"
#include "kernels/linear_attention/gated_linear_attention_chunked.h"
#include "kernels/linear_attention/gated_linear_attention_fused_walk.h"
#include "kernels/linear_attention/gated_linear_attention_heads.h"

namespace sluice::kernels {
namespace {

using Path = GatedLinearAttentionPlan::Path;
constexpr int64_t kLargestRecurrent = 1024, kLargestStepKey = 512;

bool on_16_bytes(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }
// Null is fine: what is not there is not read.
bool rows_on_16_bytes(const bfloat16* pointer, int64_t stride) {
  return on_16_bytes(pointer) && (pointer == nullptr || stride % 8 == 0);
}

template <class Params>
void check_sizes(const Params& p) {
  SLUICE_CHECK(p.kv_heads > 0 && p.heads % p.kv_heads == 0, kUsage,
               "gated linear attention: {} query heads are no multiple of {} kv heads", p.heads, p.kv_heads);
  SLUICE_CHECK(p.chunk == gla::CHUNK, kUsage,
               "gated linear attention on a GPU: chunks have {} tokens, not {}", gla::CHUNK, p.chunk);
  SLUICE_CHECK((p.g != nullptr) + (p.head_g != nullptr) + (p.constant_g != nullptr) <= 1, kUsage,
               "gated linear attention: heads have decays of one kind, by channels, by tokens or constant");
}

template <class Params>
void check_recurrent(const Params& p) {
  SLUICE_CHECK(
      p.key_size <= kLargestRecurrent && p.value_size <= kLargestRecurrent, kUsage,
      "gated linear attention on a GPU: in float, or with rows that are not on 16-byte boundaries, heads of "
      "up to {} keys and values are supported, not {} and {}",
      kLargestRecurrent, p.key_size, p.value_size);
}

template <class Params>
bool sizes_fit_tensor_cores(const Params& p) {
  return p.key_size % 8 == 0 && p.value_size % 8 == 0;
}

class Parts {
 public:
  // First byte of a part of `count` elements.
  int64_t next(int64_t count, int64_t element_bytes) {
    const int64_t first = bytes_;
    bytes_ += (count * element_bytes + 255) / 256 * 256;
    return first;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

bool fused_allowed = true;

template <class Params>
bool fused_fits(const Params& p) {
  return fused_allowed && p.heads == p.kv_heads && p.key_size <= gla::FUSED_WALK_LARGEST_KEYS &&
         gla::has_fused_walk();
}

// The chunked path, or the fused one of which backward is by channels.
template <class Params>
void place_chunks(const Params& p, bool backward, bool fused, GatedLinearAttentionPlan& plan) {
  const int64_t q_chunks = p.chunks * p.heads, kv_chunks = p.chunks * p.kv_heads;
  plan.path = fused ? Path::kFused : Path::kChunked;
  Parts parts;
  plan.spans = parts.next(p.chunks, sizeof(gla::ChunkSpan));
  const int64_t keys = fused ? gla::fused_panels(p.key_size) * int64_t{64} : p.key_size;
  plan.decay = parts.next(kv_chunks * keys, 4);
  plan.q_hat = parts.next(q_chunks * gla::HAT_ROWS * keys, 2);
  plan.k_hat = parts.next(kv_chunks * gla::HAT_ROWS * keys, 2);
  plan.scores = parts.next(q_chunks * 2 * gla::CHUNK * gla::CHUNK, 2);
  const int64_t state_elements =
      fused ? gla::elements_of(gla::state_fragments(p.key_size, p.value_size)) : p.key_size * p.value_size;
  if (backward || !fused) plan.states = parts.next(kv_chunks * state_elements, 2);
  if (fused) {
    const gla::Segmentation segments =
        gla::segmentation_of(p.chunks, p.sequences, p.kv_heads, p.key_size, p.value_size);
    plan.segment_chunks = segments.chunks, plan.segment_slots = segments.slots;
    plan.segment_states = parts.next(segments.state_elements, 4);
    plan.segment_decays = parts.next(segments.decay_elements, 4);
    if (backward) {
      plan.query_states = parts.next(segments.state_elements, 4);
      plan.query_decays = parts.next(segments.decay_elements, 4);
    }
  }
  if (backward) {
    if (p.heads != p.kv_heads) plan.d_scores = parts.next(q_chunks * gla::CHUNK * gla::CHUNK, 4);
    plan.d_states = parts.next(kv_chunks * state_elements, 2);
  }
  if constexpr (requires { p.d_head_g; }) {
    if (p.d_head_g != nullptr)
      plan.head_gate_parts = parts.next(p.tokens * p.kv_heads * ((p.key_size + 63) / 64), 4);
  }
  plan.bytes = parts.bytes();
}

// The fused path where heads decay as a whole: nothing but what segments leave.
template <class Params>
void place_heads(const Params& p, bool backward, GatedLinearAttentionPlan& plan) {
  plan.path = Path::kFused, plan.by_heads = true;
  int64_t longest = 0;
  if constexpr (requires { p.longest; }) longest = (p.longest + gla::CHUNK - 1) / gla::CHUNK;
  const gla::HeadSegmentation segments =
      gla::head_segmentation_of(p.chunks, p.sequences, longest, p.heads, p.key_size, p.value_size, backward);
  plan.segment_chunks = segments.chunks, plan.segment_slots = segments.slots;
  plan.segments_lead = segments.leads;
  Parts parts;
  plan.segment_states = parts.next(segments.value_states, 4);
  plan.segment_decays = parts.next(segments.decays, 4);
  if (backward) {
    plan.query_states = parts.next(segments.gradient_states, 4);
    plan.query_decays = parts.next(segments.decays, 4);
    plan.key_states = parts.next(segments.gradient_states, 4);
    plan.key_decays = parts.next(segments.decays, 4);
  }
  plan.bytes = parts.bytes();
}

}  // namespace

std::string GatedLinearAttentionPlan::to_string() const {
  if (path == Path::kFused) {
    return fmt::format(
        "gated linear attention: fused{}, {} segments of up to {} chunks{}, {} bytes of workspace",
        by_heads ? " by heads" : "", segment_slots, segment_chunks,
        segments_lead ? " in one launch, each after those before it" : "", bytes);
  }
  const char* name = path == Path::kChunked ? "chunked" : path == Path::kStep ? "step" : "recurrent";
  return fmt::format("gated linear attention: {}, {} bytes of workspace", name, bytes);
}

void allow_fused_gated_linear_attention(bool allowed) { fused_allowed = allowed; }

template <class T>
GatedLinearAttentionPlan plan_of(const GatedLinearAttentionForward<T>& p) {
  check_sizes(p);
  GatedLinearAttentionPlan plan;
  if (p.longest == 1 && p.value_size % 4 == 0 && p.key_size <= kLargestStepKey &&
      on_16_bytes(p.initial_state) && on_16_bytes(p.final_state)) {
    plan.path = Path::kStep;
    return plan;
  }
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (sizes_fit_tensor_cores(p) && rows_on_16_bytes(p.q, p.q_stride) && rows_on_16_bytes(p.k, p.k_stride) &&
        rows_on_16_bytes(p.v, p.v_stride) && rows_on_16_bytes(p.g, p.g_stride) &&
        rows_on_16_bytes(p.o, p.o_stride)) {
      if (p.g == nullptr && fused_fits(p)) {
        place_heads(p, false, plan);
      } else {
        place_chunks(p, false, fused_fits(p), plan);
      }
      return plan;
    }
  }
  check_recurrent(p);
  return plan;
}

template <class T>
GatedLinearAttentionPlan plan_of(const GatedLinearAttentionBackward<T>& p) {
  check_sizes(p);
  GatedLinearAttentionPlan plan;
  if constexpr (std::is_same_v<T, bfloat16>) {
    const bool rows_fit = rows_on_16_bytes(p.q, p.q_stride) && rows_on_16_bytes(p.k, p.k_stride) &&
                          rows_on_16_bytes(p.v, p.v_stride) && rows_on_16_bytes(p.g, p.g_stride) &&
                          rows_on_16_bytes(p.d_o, p.d_o_stride) && rows_on_16_bytes(p.dq, p.dq_stride) &&
                          rows_on_16_bytes(p.dk, p.dk_stride) && rows_on_16_bytes(p.dv, p.dv_stride) &&
                          rows_on_16_bytes(p.dg, p.dg_stride);
    if (sizes_fit_tensor_cores(p) && rows_fit && p.d_o != nullptr) {
      if (p.g == nullptr && p.d_head_g == nullptr && fused_fits(p) &&
          p.value_size <= gla::HEADS_LARGEST_COLUMNS && p.scale != 0) {
        place_heads(p, true, plan);
      } else {
        place_chunks(p, true, fused_fits(p), plan);
      }
      return plan;
    }
  }
  check_recurrent(p);
  Parts parts;
  plan.dq = parts.next(p.tokens * p.heads * p.key_size, 4);
  plan.dk = parts.next(p.tokens * p.kv_heads * p.key_size, 4);
  if (p.dg != nullptr || p.d_head_g != nullptr) {
    plan.across = parts.next(p.chunks * p.kv_heads * p.key_size, 4);
    plan.states = parts.next(p.chunks * p.kv_heads * p.key_size * p.value_size, 4);
  }
  if (p.d_head_g != nullptr) plan.head_gate_parts = parts.next(p.tokens * p.kv_heads * p.key_size, 4);
  plan.bytes = parts.bytes();
  return plan;
}

template GatedLinearAttentionPlan plan_of(const GatedLinearAttentionForward<float>&);
template GatedLinearAttentionPlan plan_of(const GatedLinearAttentionForward<bfloat16>&);
template GatedLinearAttentionPlan plan_of(const GatedLinearAttentionBackward<float>&);
template GatedLinearAttentionPlan plan_of(const GatedLinearAttentionBackward<bfloat16>&);

}  // namespace sluice::kernels
