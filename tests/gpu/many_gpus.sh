#!/usr/bin/env bash
# On a machine with two GPUs or more: that N GPUs train as one does, how much faster, and in how much memory.
set -uo pipefail

usage() {
  cat <<'END'
Usage: tests/gpu/many_gpus.sh BIN [WORK] [RANKS] [CHECK...]

BIN is the folder of a build with the program train; WORK (default: a temporary folder) takes data and runs, about
100 MB; RANKS (default 2) is the number of GPUs. Processes are started as torchrun starts them and meet over TCP,
so that no MPI is needed. Takes about six minutes; CHECKs are some of these, all but launch by default. Seconds are
for two GPUs:

  graph   (20 s) a small model in bf16 for 30 steps: RANKS processes with and without parallel.zero, with and without
          CUDA graphs, must give the same bits
  equal   (60 s) the same model for 30 steps, in f32 and bf16: RANKS processes, also with parallel.zero and with
          parallel.sequence, against one process that accumulates as many micro batches; a run that is stopped and
          resumed must give the same bits
  speed   (65 s) GLA 340M and 1.3B: tokens/s of a GPU and memory for 24 steps, one process against RANKS, without and
          with parallel.zero, at the same tokens a GPU; and what comparing all weights takes
  launch  (25 s) the same without CUDA graphs
  timeline (15 s) two steps of GLA 340M, without and with parallel.zero: what runs under what
  long    (135 s) GLA 340M on sequences of 131072 tokens a GPU: RANKS processes that share a sequence against one
          that recomputes its layers to hold as much, 50 steps

Every process is ended after LIMIT (default 300) seconds.

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
[ "$checks" != "  " ] || checks=" graph equal speed timeline long "
wanted() { [[ $checks == *" $1 "* ]]; }
[ -x "$bin/train" ] || { echo "many_gpus: no program train in $bin" >&2; exit 2; }
gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c .)
if [ "$gpus" -lt "$ranks" ]; then
  echo "many_gpus: $gpus GPU(s) here, $ranks are needed; skipped"
  exit 77
fi

failures=0
limit=${LIMIT:-300}
gpu= # of a single process, where it matters
port=$((20000 + $$ % 20000))

results=$work/results.txt
: >"$results"
say() { echo "$*" | tee -a "$results"; }

# launch PROCESSES LOG ARGUMENTS...: the highest exit code of train's processes.
launch() {
  local processes=$1 log=$2 code=0 pids=() pid status rank
  shift 2
  port=$((port + 1))
  for ((rank = 0; rank < processes; ++rank)); do
    if [ "$processes" -eq 1 ]; then
      env ${gpu:+CUDA_VISIBLE_DEVICES=$gpu} timeout -k 5 "$limit" "$bin/train" "$@" >"$log.$rank" 2>&1 &
    else
      RANK=$rank WORLD_SIZE=$processes MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
        timeout -k 5 "$limit" "$bin/train" "$@" >"$log.$rank" 2>&1 &
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

attention='{"model_type": "transformer", "vocab_size": 32000, "hidden_size": 256, "num_hidden_layers": 4, "num_heads": 4}'

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
    say "FAILED $name: exit code $code"
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
compare() { # NAME REFERENCE TOLERANCE [STEPS]
  local difference
  difference=$(paste <(column "$work/$1/log.jsonl" loss) <(column "$work/$2/log.jsonl" loss) | awk -v steps="${4:-30}" '
    NF != 4 || $1 != $3 { bad = 1 }
    { d = ($2 - $4) / $4; if (d < 0) d = -d; if (d > most) most = d }
    END { if (bad || NR != steps) print "nan"; else print most + 0 }')
  if awk -v d="$difference" -v t="$3" 'BEGIN { exit !(d != "nan" && d + 0 <= t + 0) }'; then
    say "ok     $1 against $2: losses differ by at most $difference (limit $3)"
  else
    say "FAILED $1 against $2: losses differ by $difference (limit $3)"
    failures=$((failures + 1))
  fi
}

check_equal() {
  local dtype tolerance first again shard
  for dtype in float32 bfloat16; do
    tolerance=1e-5
    [ "$dtype" = float32 ] || tolerance=5e-3
    small "$dtype-1" 1 --set "train.dtype=$dtype"
    small "$dtype-$ranks" "$ranks" --set "train.dtype=$dtype"
    small "$dtype-$ranks-zero" "$ranks" --set "train.dtype=$dtype" --set parallel.zero=1 --set parallel.check_weights_every=10
    small "$dtype-$ranks-shared" "$ranks" --set "train.dtype=$dtype" --set "parallel.sequence=$ranks"
    small "$dtype-1-attention" 1 --set "train.dtype=$dtype" --set "model=$attention"
    small "$dtype-$ranks-attention" "$ranks" --set "train.dtype=$dtype" --set "model=$attention" --set "parallel.sequence=$ranks"
    compare "$dtype-$ranks-attention" "$dtype-1-attention" "$tolerance"
    compare "$dtype-$ranks" "$dtype-1" "$tolerance"
    compare "$dtype-$ranks-shared" "$dtype-1" "$tolerance"
    compare "$dtype-$ranks-zero" "$dtype-1" "$tolerance"
  done
  # Stopped in the middle, and again by two ways: as many processes, and one that has no share of anything.
  SLUICE_FAULT=term@10 small_stopped "bfloat16-$ranks-zero-again" --set train.dtype=bfloat16 --set parallel.zero=1
  cp -r "$work/bfloat16-$ranks-zero-again" "$work/bfloat16-$ranks-zero-then-1"
  go_on "bfloat16-$ranks-zero-again" "$ranks" 0 --set train.dtype=bfloat16 --set parallel.zero=1
  go_on "bfloat16-$ranks-zero-then-1" 1 0 --set train.dtype=bfloat16
  compare "bfloat16-$ranks-zero-then-1" bfloat16-1 "$tolerance"
  first=$(sha256sum <"$work/bfloat16-$ranks-zero/log.jsonl")
  again=$(sha256sum <"$work/bfloat16-$ranks-zero-again/log.jsonl")
  for shard in "$work/bfloat16-$ranks-zero"/checkpoints/step_00000030/{model,trainer/optimizer-*}.safetensors; do
    first+=$(sha256sum <"$shard")
    again+=$(sha256sum <"${shard/-zero/-zero-again}")
  done
  if [ "$first" = "$again" ]; then
    say "ok     the same run, stopped and resumed: the same bits"
  else
    say "FAILED the same run, stopped and resumed: other bits"
    failures=$((failures + 1))
  fi
}

# Bits that must not depend on how work is given to the GPU.
check_graph() {
  local zero first again
  for zero in 0 1; do
    small "graph-$zero" "$ranks" --set train.dtype=bfloat16 --set "parallel.zero=$zero"
    small "no-graph-$zero" "$ranks" --set train.dtype=bfloat16 --set "parallel.zero=$zero" --set train.cuda_graph=false
    first=$(sha256sum <"$work/graph-$zero/log.jsonl")$(sha256sum <"$work/graph-$zero/checkpoints/step_00000030/model.safetensors")
    again=$(sha256sum <"$work/no-graph-$zero/log.jsonl")$(sha256sum <"$work/no-graph-$zero/checkpoints/step_00000030/model.safetensors")
    if [ "$first" = "$again" ]; then
      say "ok     parallel.zero $zero: the same bits with and without graphs"
    else
      say "FAILED parallel.zero $zero: other bits without graphs"
      failures=$((failures + 1))
    fi
  done
  compare graph-1 graph-0 5e-3
}

# Killed after a step, so that no checkpoint is written.
measure() { # NAME MODEL SEQUENCES LENGTH STEPS PROCESSES ARGUMENTS...
  local name=$1 model=$2 sequences=$3 length=$4 steps=$5 processes=$6
  shift 6
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
}

# Tokens/s of a GPU: the median of the steps from 7 on, or of all but the first two where they are few.
rate_of() { # NAME PROCESSES
  column "$work/$1/timing.jsonl" tokens_per_second | awk '{ v[NR] = $2 } END {
    for (i = NR < 20 ? 3 : 7; i <= NR; ++i) print v[i] }' | sort -g |
    awk -v n="$2" '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] / n; else print 0 }'
}

# A line of the table; the efficiency where REFERENCE names the run of one process.
tell() { # TITLE NAME PROCESSES [REFERENCE]
  local rate memory line alone compared
  rate=$(rate_of "$2" "$3" 2>/dev/null)
  if [ "${rate:-0}" = 0 ]; then
    say "FAILED $1"
    tail -n 5 "$work/$2.log".*
    failures=$((failures + 1))
    return
  fi
  memory=$(column "$work/$2/timing.jsonl" peak_bytes | awk '{ peak = $2 / 2 ^ 30 } END { printf "%.1f GiB", peak }')
  line=$(printf '%-52s %d GPU(s)  %8.0f tokens/s a GPU, peak %s' "$1" "$3" "$rate" "$memory")
  if [ -n "${4-}" ]; then
    alone=$(rate_of "$4" 1)
    line+=$(awk -v r="$rate" -v a="$alone" 'BEGIN { printf ", %.1f%% of one", 100 * r / a }')
  fi
  # What comparing all weights takes, as a share of the 1000 steps that lie between two comparisons by default.
  compared=$(column "$work/$2/timing.jsonl" compare_weights_seconds | awk '{ s = $2 } END { print s }')
  if [ -n "$compared" ]; then
    line+=$(column "$work/$2/timing.jsonl" seconds |
      awk -v s="$compared" '{ last = $2 } END { printf ", weights compared in %.3f s (%.2f%%)", s, s / (10 * last) }')
  fi
  say "$line, losses $(column "$work/$2/log.jsonl" loss | awk 'NR == 1 || NR == 4 { printf "%s ", $2 }')"
}

# One process of each model, side by side.
measure_alone() { # SUFFIX ARGUMENTS...
  local suffix=$1
  shift
  gpu=0 measure "gla_340m-1$suffix" gla_340m 16 2048 24 1 "$@" &
  gpu=1 measure "gla_1.3b-1$suffix" gla_1.3b 8 2048 16 1 "$@" &
  wait
}

check_speed() {
  local model name sequences steps zero
  measure_alone ""
  for model in gla_340m:16:24 gla_1.3b:8:16; do
    IFS=: read -r name sequences steps <<<"$model"
    tell "$name" "$name-1" 1
    for zero in 0 1; do
      measure "$name-$ranks-$zero" "$name" "$sequences" 2048 "$steps" "$ranks" --set "parallel.zero=$zero" \
        --set parallel.check_weights_every=12
      tell "$name, parallel.zero $zero" "$name-$ranks-$zero" "$ranks" "$name-1"
      RANK=0 WORLD_SIZE=$ranks "$bin/train" --config "$work/$name-$ranks-$zero.json" --dry-run \
        --set "parallel.zero=$zero" 2>/dev/null | sed -n "s/^device memory/planned, zero $zero/p"
    done
  done
}

check_launch() {
  if ! [ -d "$work/gla_340m-1" ]; then measure_alone ""; fi
  measure_alone -no-graph --set train.cuda_graph=false
  tell "gla_340m, no graph" gla_340m-1-no-graph 1 gla_340m-1
  tell "gla_1.3b, no graph" gla_1.3b-1-no-graph 1 gla_1.3b-1
  measure "gla_340m-$ranks-no-graph" gla_340m 16 2048 24 "$ranks" --set train.cuda_graph=false
  tell "gla_340m, no graph" "gla_340m-$ranks-no-graph" "$ranks" gla_340m-1
}

check_timeline() {
  local zero name
  for zero in 0 1; do
    name=timeline-$zero
    measure "$name" gla_340m 16 2048 12 "$ranks" --set "parallel.zero=$zero" --profile-steps 9:11
    if [ -s "$work/$name/timeline.txt" ] && [ -s "$work/$name/timeline_rank1.json" ]; then
      say "timeline of gla_340m, parallel.zero $zero, in $name/timeline.json:"
      head -n 16 "$work/$name/timeline.txt" | tee -a "$results"
    else
      say "FAILED $name"
      tail -n 5 "$work/$name.log".*
      failures=$((failures + 1))
    fi
  done
}

check_long() {
  local length=$((131072 * ranks))
  measure long-shared gla_340m 1 "$length" 50 "$ranks" --set "parallel.sequence=$ranks"
  tell "gla_340m, $length tokens in one sequence, shared" long-shared "$ranks"
  measure long-alone gla_340m 1 "$length" 50 1 --set train.recompute=layer
  tell "gla_340m, $length tokens in one sequence, layers twice" long-alone 1
  compare long-shared long-alone 5e-3 50
}

for check in graph equal speed timeline launch long; do
  if wanted "$check"; then
    started=$SECONDS
    "check_$check"
    say "$check: $((SECONDS - started)) s"
  fi
done
echo
echo "All results:"
cat "$results"
[ "$failures" -eq 0 ]
