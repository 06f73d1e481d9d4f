#include <algorithm>
#include <iterator>

#include "apps/config_reference.h"

namespace sluice {
namespace {

struct Description {
  std::string_view path, text;
};

constexpr Description kDescriptions[] = {
    {"name",
     "Of the run; default: the stem of the file's name. The default output directory is `runs/NAME`."},
    {"model",
     "A Hugging Face `config.json`, as an object or as the path of a file, beside the run's file or in the "
     "working directory. Its keys are below."},
    {"data.train",
     "Token files to train on: `\"path\"`, `[\"path\", ...]` or a mix `[{\"path\": ..., \"weight\": 2}, "
     "...]`, "
     "weights relative to each other. A path is a file, a directory, a glob pattern, or a Megatron prefix. "
     "Required."},
    {"data.validation", "The same for validation; without it there is none."},
    {"data.tokenizer", "A sentencepiece model, copied into checkpoints; samples need it."},
    {"data.shuffle",
     "Visit the sequences in a random order, a new one each epoch; else in the files' order."},
    {"data.seed", "Of that order."},
    {"data.reset_state_at_document",
     "Keep the documents of one row apart: state, convolution and attention start anew at each."},
    {"data.document_token", "First token of each document; null: the model's `bos_token_id`."},
    {"data.prefetch", "Batches prepared ahead."},
    {"data.labels_from_token",
     "Learn to foresee only tokens of this id and above; 0: all. With answers in a range of ids of their "
     "own, "
     "only they are trained on."},
    {"data.labels_from_position",
     "Learn only what follows this position of a sequence and later ones, counted from 0; 0: all."},
    {"optimizer.name", "AdamW is the only one."},
    {"optimizer.lr", "Peak learning rate; above 0."},
    {"optimizer.beta1", "Decay of the first moment; below 1."},
    {"optimizer.beta2", "Decay of the second moment; below 1."},
    {"optimizer.eps", "Added to the root of the second moment; above 0."},
    {"optimizer.weight_decay", "Decoupled, times the learning rate."},
    {"optimizer.decay_embeddings", "Decay embeddings too, and an output projection tied to them."},
    {"optimizer.decay_norms_and_biases", "Decay norms and biases too."},
    {"optimizer.grad_clip", "Largest global norm of the gradient; 0: no clipping."},
    {"schedule.kind",
     "What the learning rate does after warm-up. `wsd`: constant, then a linear decay at the end."},
    {"schedule.warmup_steps", "Steps of linear warm-up."},
    {"schedule.initial_ratio", "Learning rate at step 0 over the peak."},
    {"schedule.final_ratio", "Learning rate at the last step over the peak."},
    {"schedule.decay_fraction", "`wsd`: share of all steps spent decaying."},
    {"train.steps", "Optimizer steps in all."},
    {"train.sequence_length", "Tokens of one training sequence, over all its segments."},
    {"train.micro_batch_sequences", "Sequences of one forward and backward pass on one device."},
    {"train.global_batch_tokens",
     "Tokens of a step over all devices: gradients are accumulated until it is full. 0: one micro batch a "
     "device."},
    {"train.segments",
     "Truncated backpropagation: the sequence is cut into so many parts, the state carried, no gradient "
     "across."},
    {"train.recompute",
     "What backward computes again: nothing; norms, activations and gates; or whole layers. Less memory, "
     "more time."},
    {"train.seed", "Of the initial weights and of samples."},
    {"train.device", "`auto`: the GPU where there is one."},
    {"train.dtype",
     "Type to compute in. `auto`: bfloat16 with float32 master weights on a GPU, float32 on a CPU."},
    {"train.cuda_graph", "Launch a micro step as one recorded graph where shapes are static; same bits."},
    {"train.threads", "CPU threads; 0: all cores."},
    {"train.output_dir", "Where everything goes; empty: `runs/NAME`."},
    {"train.init_from",
     "Hugging Face directory whose weights the run starts from; also `train --init-from`."},
    {"train.nonfinite", "What to do where loss or gradient are not finite: skip the step, or stop with 17."},
    {"train.nonfinite_limit", "Stop with 17 after so many skipped steps in a row."},
    {"train.validate_every", "Steps between validations; 0: never."},
    {"train.validate_sequences", "Sequences of one validation."},
    {"train.sample_every", "Steps between samples of text; 0: never."},
    {"train.sample_tokens", "Tokens of one sample."},
    {"train.sample_prompts", "What samples continue."},
    {"train.sample_temperature", "Logits of samples are divided by it; 0: always the most probable token."},
    {"checkpoint.every", "Steps between checkpoints; 0: only at the end and on a signal."},
    {"checkpoint.every_minutes", "Minutes between checkpoints; 0: off."},
    {"checkpoint.keep_last", "The newest so many are kept."},
    {"checkpoint.keep_every", "Checkpoints at multiples of so many steps are kept for good; 0: none."},
    {"checkpoint.verify", "What is checked before one is loaded: sizes and hashes, or sizes alone."},
    {"log.every", "Steps between lines of the log."},
    {"log.tensorboard", "Write a TensorBoard event file."},
    {"log.progress", "`auto`: a progress line where standard error is a terminal."},
    {"parallel.world_size", "Processes expected, another number is an error; 0: as many as are started."},
    {"parallel.zero",
     "1: each process keeps and updates its share of the optimizer's state (ZeRO stage 1); 0: all of it."},
    {"parallel.sequence",
     "So many processes share each sequence, an equal part of its length each; the others train on other "
     "sequences. Recurrent states are folded from part to part; softmax attention layers gather the keys and "
     "values of the parts before."},
    {"parallel.check_weights_every", "Steps between comparisons of all processes' weights; 0: never."},
    {"parallel.start_seconds",
     "How long processes may take to meet, agree and load, each, before the watchdog ends the job with 124."},
    {"parallel.first_step_seconds", "The same for the first step; 0: for ever, as with those below."},
    {"parallel.step_seconds", "A step; or 20 times the median of recent steps, where that is longer."},
    {"parallel.validate_seconds", "A validation."},
    {"parallel.save_seconds", "A checkpoint."},
    {"model.model_type", "The family: `gla`, `transformer`."},
    {"model.vocab_size", "Ids of tokens."},
    {"model.hidden_size", "Width of the residual stream."},
    {"model.num_hidden_layers", "Layers."},
    {"model.hidden_ratio",
     "Width of the feed-forward layer: 256 x ceil(hidden_size x hidden_ratio x 2/3 / 256); null: 4."},
    {"model.intermediate_size", "That width itself; null: from `hidden_ratio`."},
    {"model.norm_eps", "Of RMSNorm."},
    {"model.elementwise_affine", "Norms have weights; null: true."},
    {"model.tie_word_embeddings", "The output projection is the embedding."},
    {"model.initializer_range", "Standard deviation of initial weights."},
    {"model.max_position_embeddings",
     "Carried along; `evaluate` asks before it goes far beyond where the state grows. Null: 2048."},
    {"model.pad_token_id", "Carried along."},
    {"model.bos_token_id", "First token of a text and of each document. Absent: 1; null: none."},
    {"model.eos_token_id", "Ends generated text. Absent: 2; null: none."},
    {"model.hidden_act", "`swish` or `silu`: the same."},
    {"model.use_cache", "Carried along for transformers."},
    {"model.fuse_norm", "Names the norm of the gated output as flash-linear-attention does; nothing else."},
    {"model.fuse_swiglu", "Carried along for flash-linear-attention."},
    {"model.fuse_cross_entropy", "Carried along."},
    {"model.fuse_linear_cross_entropy", "Carried along."},
    {"model.use_l2warp", "Only false is supported."},
    {"model.attnres_block_size", "Only null is supported."},
    {"model.gla.expand_k", "Width of all keys over `hidden_size`."},
    {"model.gla.expand_v", "Width of all values over `hidden_size`."},
    {"model.gla.num_heads", "Heads."},
    {"model.gla.num_kv_heads", "Heads of keys, values and gates, each shared by a group; null: `num_heads`."},
    {"model.gla.use_short_conv", "A short causal convolution on queries, keys and values."},
    {"model.gla.conv_size", "Its width."},
    {"model.gla.use_output_gate", "Gate the output with a projection of the input."},
    {"model.gla.clamp_min", "Smallest logarithm of a decay; null: none."},
    {"model.gla.feature_map",
     "Activation of queries and keys: `relu`, `sigmoid`, `swish`, `gelu`, `tanh`, `elu`..."},
    {"model.gla.attn",
     "Layers with softmax attention instead: `{\"layers\": [0, 6], \"num_heads\": 8, ...}` or a list of "
     "such, with "
     "`num_heads`, `num_kv_heads`, `qkv_bias`, `window_size`, `rope_theta` as in the transformer."},
    {"model.gla.attn_mode", "Carried along; all compute the same."},
    {"model.gla.use_gk", "Only true is supported."},
    {"model.gla.use_gv", "Only false is supported."},
    {"model.transformer.num_heads", "Heads."},
    {"model.transformer.num_kv_heads",
     "Heads of keys and values, each shared by a group; null: `num_heads`."},
    {"model.transformer.qkv_bias", "Biases on queries, keys and values."},
    {"model.transformer.qk_norm", "RMSNorm on each head's queries and keys, before rotary positions."},
    {"model.transformer.window_size", "Tokens a query sees, itself included; null: all before it."},
    {"model.transformer.rope_theta", "Base of the rotary frequencies; null: 10000."},
};

}  // namespace

std::optional<std::string_view> describe_key(std::string_view path) {
  const auto found = std::find_if(std::begin(kDescriptions), std::end(kDescriptions),
                                  [&](const Description& entry) { return entry.path == path; });
  if (found == std::end(kDescriptions)) return std::nullopt;
  return found->text;
}

}  // namespace sluice
