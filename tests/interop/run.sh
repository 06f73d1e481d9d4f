#!/usr/bin/env bash
# Directories written by our programs, opened by an independent PyTorch model (reference_model.py).
# Needs python3 with torch and safetensors; the CPU is enough. PYTHON names another interpreter.
set -euo pipefail

if [ $# -ne 1 ] || [ "$1" = --help ]; then
  echo "Usage: tests/interop/run.sh BUILD_FOLDER    prints a line a case, exits with 1 where one fails, 77 without PyTorch" >&2
  exit 2
fi
programs=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if ! "$python" -c "import torch, safetensors" 2>/dev/null; then
  echo "run.sh: $python has no torch or no safetensors; nothing was checked" >&2
  exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A text with something to learn, so that the weights move: each token follows from the two before it, mostly.
"$python" - "$scratch" <<'END'
import array, random, sys
random.seed(7)
tokens = [1, 5]
while len(tokens) < 6000:
    tokens.append((7 * tokens[-1] + 3 * tokens[-2] + 1) % 96 if random.random() < 0.8 else random.randrange(96))
for name, part in (("train.bin", tokens[:5000]), ("test.bin", tokens[5000:5000 + 3 * 130])):
    with open(sys.argv[1] + "/" + name, "wb") as file:
        file.write(array.array("H", part).tobytes())
with open(sys.argv[1] + "/prompt", "w") as file:
    file.write(",".join(str(token) for token in tokens[5500:5600]))
END
prompt=$(cat "$scratch/prompt")

failed=0
check() {  # check NAME DIRECTORY TOLERANCE
  "$programs/evaluate" --checkpoint "$2" --data "$scratch/test.bin" --lengths 130 --device cpu --dtype float32 \
    --logits "$scratch/logits.npy" >"$scratch/log" 2>&1 || { cat "$scratch/log"; return 1; }
  continuation=$("$programs/generate" --checkpoint "$2" --prompt-tokens "$prompt" --tokens 32 --greedy --no-stop \
    --device cpu --dtype float32 2>"$scratch/log") || { cat "$scratch/log"; return 1; }
  printf '%-28s' "$1"
  "$python" "$here/check_directory.py" "$2" "$scratch/test.bin" "$scratch/logits.npy" "$prompt" "$continuation" "$3"
}

train_and_check() {  # train_and_check NAME MODEL_KEYS
  cat >"$scratch/$1.json" <<END
{ "model": { "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, $2 },
  "data": { "train": "$scratch/train.bin" },
  "optimizer": { "lr": 5e-3 },
  "train": { "steps": 30, "sequence_length": 64, "micro_batch_sequences": 8, "device": "cpu", "dtype": "float32",
             "output_dir": "$scratch/$1" },
  "checkpoint": { "every": 0 }, "log": { "tensorboard": false, "progress": "off" } }
END
  "$programs/train" --config "$scratch/$1.json" >"$scratch/log" 2>&1 || { cat "$scratch/log"; return 1; }
  check "$1" "$scratch/$1/checkpoints/step_00000030" 1e-5
}

gla='"model_type": "gla", "num_heads": 2'
transformer='"model_type": "transformer", "num_heads": 4'
train_and_check gla "$gla" || failed=1
train_and_check gla_short_conv "$gla, \"use_short_conv\": true" || failed=1
train_and_check gla_kv_heads "\"model_type\": \"gla\", \"num_heads\": 4, \"num_kv_heads\": 2, \"expand_k\": 1.0" || failed=1
train_and_check gla_options "$gla, \"feature_map\": \"swish\", \"clamp_min\": -0.1, \"use_output_gate\": false" || failed=1
train_and_check gla_tied_unfused "$gla, \"tie_word_embeddings\": true, \"fuse_norm\": false, \"expand_v\": 2.0" || failed=1
train_and_check gla_hybrid "$gla, \"attn\": { \"layers\": [1], \"num_heads\": 4, \"num_kv_heads\": 2, \"window_size\": 32 }" || failed=1
train_and_check transformer "$transformer" || failed=1
train_and_check transformer_options "$transformer, \"num_kv_heads\": 1, \"qkv_bias\": true, \"qk_norm\": true, \"window_size\": 16, \"rope_theta\": 500.0" || failed=1

# The same weights in other shards and types: both sides read what is stored, so both compute the same.
for form in "sharded --max-shard-size 40KB" "bf16 --dtype bf16" "f16 --dtype f16"; do
  name=gla_${form%% *}
  # shellcheck disable=SC2086
  "$programs/convert" weights "$scratch/gla/checkpoints/step_00000030" "$scratch/$name" ${form#* } >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; failed=1; continue; }
  check "$name" "$scratch/$name" 1e-5 || failed=1
done
exit $failed
