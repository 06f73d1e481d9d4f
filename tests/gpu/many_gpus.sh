#!/usr/bin/env bash
# On a machine with two GPUs or more: that N GPUs train as one does, how much faster, and in how much memory.
set -uo pipefail

usage() {
  cat <<'END'
Usage: tests/gpu/many_gpus.sh BIN [WORK] [RANKS] [CHECK...]

BIN is the folder of a build with the program train; WORK (default: a temporary folder) takes data and runs, about
100 MB; RANKS (default 2) is the number of GPUs. Processes are started as torchrun starts them and meet over TCP,
so that no MPI is needed. Takes two to three minutes; CHECKs are some of these, all by default:

  equal   a small model for 30 steps, in f32 and bf16: RANKS processes, also with parallel.zero and with
          parallel.sequence, against one process that accumulates as many micro batches; a run that is stopped and
          resumed must give the same bits
  speed   GLA 340M and 1.3B: tokens/s of a GPU and memory for 12 steps, one process against RANKS, without and with
          parallel.zero, at the same tokens a GPU
  long    GLA 340M on sequences of 131072 tokens a GPU: one process, and RANKS that share a sequence; the losses of
          the latter are those of one process that recomputes its layers to hold as much

Exit codes: 0 all equal, 1 not, 2 usage, 77 fewer GPUs here. Speeds are printed, not judged.
END
}

case "${1-}" in
  "" | --help | -h) usage; [ -n "${1-}" ] && exit 0; exit 2 ;;
esac
bin=$(cd "$1" && pwd) || exit 2
repository=$(cd "$(dirname "$0")/../.." && pwd)
made=
if [ -n "${2-}" ]; then mkdir -p "$2"; work=$2; else work=$(mktemp -d); made=$work; fi
trap '[ -z "$made" ] || rm -rf "$made"' EXIT
ranks=${3:-2}
checks=" ${*:4} "
[ "$checks" != "  " ] || checks=" equal speed long "
wanted() { [[ $checks == *" $1 "* ]]; }
[ -x "$bin/train" ] || { echo "many_gpus: no program train in $bin" >&2; exit 2; }
gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c .)
if [ "$gpus" -lt "$ranks" ]; then
  echo "many_gpus: $gpus GPU(s) here, $ranks are needed; skipped"
  exit 77
fi

failures=0
port=$((20000 + $$ % 20000))

# launch PROCESSES LOG ARGUMENTS...: the highest exit code of train's processes.
launch() {
  local processes=$1 log=$2 code=0 pids=() pid status rank
  shift 2
  port=$((port + 1))
  for ((rank = 0; rank < processes; ++rank)); do
    if [ "$processes" -eq 1 ]; then
      "$bin/train" "$@" >"$log.$rank" 2>&1 &
    else
      RANK=$rank WORLD_SIZE=$processes MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$bin/train" "$@" >"$log.$rank" 2>&1 &
    fi
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" 2>/dev/null
    status=$?
    [ "$status" -le "$code" ] || code=$status
  done
  return "$code"
}

# Random tokens below 31612: bare 16-bit numbers, no byte of which is above 0x7b.
mkdir -p "$work/data"
head -c 40000000 /dev/urandom | tr '\200-\377' '\000-\177' | tr '\174-\177' '\000-\003' >"$work/data/train.bin"

# Lines "step value" of a key of a run's .jsonl.
column() {
  sed -n "s/.*\"step\":\([0-9]*\),.*\"$2\":\([-0-9.e+]*\).*/\1 \2/p" "$1"
}

cat >"$work/small.json" <<END
{
  "model": { "model_type": "gla", "vocab_size": 32000, "hidden_size": 256, "num_hidden_layers": 4, "num_heads": 4,
             "use_short_conv": true },
  "data": { "train": "$work/data/train.bin" },
  "optimizer": { "lr": 1e-3 },
  "train": { "steps": 30, "sequence_length": 512, "micro_batch_sequences": 4, "device": "cuda",
             "global_batch_tokens": $((4 * 512 * ranks)) },
  "checkpoint": { "every": 0 },
  "log": { "progress": "off", "tensorboard": false }
}
END

small() { # NAME PROCESSES ARGUMENTS...
  local name=$1 processes=$2
  shift 2
  rm -rf "${work:?}/$name"
  go_on "$name" "$processes" 0 "$@"
}

# The same without a fresh start, and with the exit code that is expected.
go_on() { # NAME PROCESSES CODE ARGUMENTS...
  local name=$1 processes=$2 expected=$3 code
  shift 3
  launch "$processes" "$work/$name.log" --config "$work/small.json" --set "train.output_dir=$work/$name" "$@"
  code=$?
  if [ "$code" -ne "$expected" ]; then
    echo "FAILED $name: exit code $code"
    tail -n 5 "$work/$name.log".*
    failures=$((failures + 1))
  fi
}

# Stopped by its SLUICE_FAULT.
small_stopped() { # NAME ARGUMENTS...
  local name=$1
  shift
  rm -rf "${work:?}/$name" "${work:?}/${name%-again}-then-1"
  go_on "$name" "$ranks" 75 "$@"
}

# The largest relative difference of two runs' losses.
compare() { # NAME REFERENCE TOLERANCE
  local difference
  difference=$(paste <(column "$work/$1/log.jsonl" loss) <(column "$work/$2/log.jsonl" loss) | awk '
    NF != 4 || $1 != $3 { bad = 1 }
    { d = ($2 - $4) / $4; if (d < 0) d = -d; if (d > most) most = d }
    END { if (bad || NR != 30) print "nan"; else print most + 0 }')
  if awk -v d="$difference" -v t="$3" 'BEGIN { exit !(d != "nan" && d + 0 <= t + 0) }'; then
    echo "ok     $1 against $2: losses differ by at most $difference (limit $3)"
  else
    echo "FAILED $1 against $2: losses differ by $difference (limit $3)"
    failures=$((failures + 1))
  fi
}

check_equal() {
  local dtype limit first again shard
  for dtype in float32 bfloat16; do
    limit=1e-5
    [ "$dtype" = float32 ] || limit=5e-3
    small "$dtype-1" 1 --set "train.dtype=$dtype"
    small "$dtype-$ranks" "$ranks" --set "train.dtype=$dtype"
    small "$dtype-$ranks-zero" "$ranks" --set "train.dtype=$dtype" --set parallel.zero=1 --set parallel.check_weights_every=10
    small "$dtype-$ranks-shared" "$ranks" --set "train.dtype=$dtype" --set "parallel.sequence=$ranks"
    compare "$dtype-$ranks" "$dtype-1" "$limit"
    compare "$dtype-$ranks-shared" "$dtype-1" "$limit"
    compare "$dtype-$ranks-zero" "$dtype-1" "$limit"
  done
  # Stopped in the middle, and again by two ways: as many processes, and one that has no share of anything.
  SLUICE_FAULT=term@10 small_stopped "bfloat16-$ranks-zero-again" --set train.dtype=bfloat16 --set parallel.zero=1
  cp -r "$work/bfloat16-$ranks-zero-again" "$work/bfloat16-$ranks-zero-then-1"
  go_on "bfloat16-$ranks-zero-again" "$ranks" 0 --set train.dtype=bfloat16 --set parallel.zero=1
  go_on "bfloat16-$ranks-zero-then-1" 1 0 --set train.dtype=bfloat16
  compare "bfloat16-$ranks-zero-then-1" bfloat16-1 "$limit"
  first=$(sha256sum <"$work/bfloat16-$ranks-zero/log.jsonl")
  again=$(sha256sum <"$work/bfloat16-$ranks-zero-again/log.jsonl")
  for shard in "$work/bfloat16-$ranks-zero"/checkpoints/step_00000030/{model,trainer/optimizer-*}.safetensors; do
    first+=$(sha256sum <"$shard")
    again+=$(sha256sum <"${shard/-zero/-zero-again}")
  done
  if [ "$first" = "$again" ]; then
    echo "ok     the same run, stopped and resumed: the same bits"
  else
    echo "FAILED the same run, stopped and resumed: other bits"
    failures=$((failures + 1))
  fi
}

# Killed after a step, so that no checkpoint is written. Tokens/s of a GPU: the median of the steps from 5 on,
# or of all but the first where they are long.
speed() { # TITLE MODEL SEQUENCES LENGTH STEPS PROCESSES ARGUMENTS...
  local title=$1 model=$2 sequences=$3 length=$4 steps=$5 processes=$6 name memory
  shift 6
  name=$model-$length-$processes${1:+-$(printf '%s' "$*" | tr -c 'a-z0-9\n' _)}
  cat >"$work/$name.json" <<END
{
  "model": "$repository/configs/model/$model.json",
  "data": { "train": "$work/data/train.bin" },
  "train": { "steps": 1000, "sequence_length": $length, "micro_batch_sequences": $sequences,
             "recompute": "selective", "device": "cuda" },
  "checkpoint": { "every": 0 },
  "log": { "progress": "on", "tensorboard": false }
}
END
  rm -rf "${work:?}/$name"
  SLUICE_FAULT=kill@$steps launch "$processes" "$work/$name.log" --config "$work/$name.json" \
    --set "train.output_dir=$work/$name" "$@"
  rate=$(column "$work/$name/timing.jsonl" tokens_per_second |
    awk -v first="$((steps < 12 ? 2 : 5))" '$1 >= first { print $2 }' | sort -g |
    awk -v n="$processes" '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] / n; else print 0 }')
  memory=$(column "$work/$name/timing.jsonl" peak_bytes | awk '{ peak = $2 / 2 ^ 30 } END { printf "%.1f GiB", peak }')
  if [ "$rate" = 0 ]; then
    echo "FAILED $name"
    tail -n 5 "$work/$name.log".*
    failures=$((failures + 1))
  fi
  printf '%-26s %d GPU(s)  %10.0f tokens/s a GPU' "$title" "$processes" "$rate"
  if [ "$processes" -eq 1 ]; then
    alone=$rate
  else
    awk -v r="$rate" -v a="$alone" 'BEGIN { if (a > 0) printf ", %.1f%% of one", 100 * r / a }'
  fi
  echo ", peak $memory, losses $(column "$work/$name/log.jsonl" loss | awk 'NR == 1 || NR == 4 { print $2 }' | tr '\n' ' ')"
}

check_speed() {
  local model name zero
  for model in gla_340m:16 gla_1.3b:8; do
    name=${model%:*}
    speed "$name" "$name" "${model#*:}" 2048 12 1
    speed "$name" "$name" "${model#*:}" 2048 12 "$ranks"
    speed "$name, zero" "$name" "${model#*:}" 2048 12 "$ranks" --set parallel.zero=1
    for zero in 0 1; do
      RANK=0 WORLD_SIZE=$ranks "$bin/train" --config "$work/$name-2048-$ranks.json" --dry-run \
        --set "parallel.zero=$zero" 2>/dev/null | sed -n "s/^device memory/planned, zero $zero/p"
    done
  done
}

check_long() {
  local length=$((131072 * ranks))
  speed "gla_340m, 131072" gla_340m 1 131072 4 1
  speed "gla_340m, $length shared" gla_340m 1 "$length" 4 "$ranks" --set "parallel.sequence=$ranks"
  speed "gla_340m, $length alone" gla_340m 1 "$length" 4 1 --set train.recompute=layer
}

if wanted equal; then check_equal; fi
if wanted speed; then check_speed; fi
if wanted long; then check_long; fi
[ "$failures" -eq 0 ]
