#!/usr/bin/env bash
# Two "hosts" on one machine: network namespaces with names of their own, joined by a virtual cable. A training
# run goes across it over TCP, and the cable is cut under another one.
set -uo pipefail

usage() {
  cat <<'END'
Usage: tests/dist/two_hosts.sh BIN

BIN is the folder of a build with the program train. Needs root for the namespaces, Open MPI and iproute2.
Exit codes: 0 as it should be, 1 not, 2 usage, 77 not possible here.
END
}

case "${1-}" in
  "" | --help | -h) usage; [ -n "${1-}" ] && exit 0; exit 2 ;;
esac
bin=$(cd "$1" && pwd) || exit 2
[ -x "$bin/train" ] || { echo "two_hosts: no program train in $bin" >&2; exit 2; }
for program in ip mpirun unshare; do
  command -v "$program" >/dev/null || { echo "two_hosts: no $program here; skipped"; exit 77; }
done
id=$$
a=sluice-a-$id b=sluice-b-$id
if [ "$(id -u)" -ne 0 ] || ! ip netns add "$a" 2>/dev/null; then
  echo "two_hosts: network namespaces need root; skipped"
  exit 77
fi
work=$(mktemp -d)
clean_up() {
  for name in "$a" "$b"; do
    # What is still there, when a check failed.
    ip netns pids "$name" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    ip netns del "$name" 2>/dev/null
  done
  rm -rf "$work"
}
trap clean_up EXIT

ip netns add "$b"
ip link add "va$id" type veth peer name "vb$id" || { echo "two_hosts: no virtual cable; skipped"; exit 77; }
ip link set "va$id" netns "$a" name cable
ip link set "vb$id" netns "$b" name cable
for host in "$a 10.211.7.1" "$b 10.211.7.2"; do
  read -r name address <<<"$host"
  ip -n "$name" link set lo up
  ip -n "$name" addr add "$address/24" dev cable
  ip -n "$name" link set cable up
done

# As mpirun calls ssh: the other host, and a command for its shell.
cat >"$work/rsh" <<END
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
shift
exec ip netns exec $b unshare --uts sh -c "hostname host-b; \$*"
END
# What a rank prints and ends with stays on its host: the way to mpirun may be the cable that is cut.
cat >"$work/rank" <<END
#!/bin/sh
trap '' TERM
setsid --wait "$bin/train" "\$@" >"$work/output.\$OMPI_COMM_WORLD_RANK" 2>&1
echo \$? >"$work/code.\$OMPI_COMM_WORLD_RANK"
exit \$(cat "$work/code.\$OMPI_COMM_WORLD_RANK")
END
chmod +x "$work/rsh" "$work/rank"
printf '10.211.7.1 slots=1\n10.211.7.2 slots=1\n' >"$work/hosts"
# Bare 16-bit tokens below 16192: every byte is at most 0x3f.
head -c 400000 /dev/urandom | tr '\100-\377' '\000-\077\000-\077\000-\077' >"$work/train.bin"
cat >"$work/run.json" <<END
{
  "model": { "model_type": "gla", "vocab_size": 16192, "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 2,
             "intermediate_size": 24 },
  "data": { "train": "$work/train.bin" },
  "train": { "steps": 30, "sequence_length": 32, "device": "cpu", "threads": 1 },
  "checkpoint": { "every": 0 },
  "parallel": { "step_seconds": 3, "zero": 1 },
  "log": { "progress": "on", "tensorboard": false }
}
END

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm_rsh_agent=$work/rsh
launch() { # ARGUMENTS...
  rm -f "$work"/code.* "$work"/output.*
  ip netns exec "$a" unshare --uts sh -c 'hostname host-a; exec "$@"' launch \
    mpirun --hostfile "$work/hosts" --map-by node -np 2 --bind-to none --mca btl tcp,self \
    --mca btl_tcp_if_include cable --mca oob_tcp_if_include cable "$work/rank" --config "$work/run.json" "$@"
}

failures=0
expect() { # DESCRIPTION COMMAND...
  local text=$1
  shift
  if "$@"; then
    echo "ok     $text"
  else
    echo "FAILED $text"
    failures=$((failures + 1))
  fi
}

launch --set "train.output_dir=$work/whole" >"$work/mpirun" 2>&1
code=$?
expect "two hosts train over TCP (exit code $code)" [ "$code" -eq 0 ]
expect "they know that they are two" grep -q "2 ranks on 2 hosts" "$work/output.0"
[ "$failures" -eq 0 ] || tail -n 20 "$work/mpirun" "$work"/output.*

launch --set "train.output_dir=$work/cut" --set train.steps=1000000 >"$work/mpirun" 2>&1 &
job=$!
for ((i = 0; i < 100; ++i)); do
  grep -q "step 1/1000000" "$work/output.0" 2>/dev/null && break
  sleep 0.1
done
expect "the run to be cut has begun" grep -q "step 1/1000000" "$work/output.0"
ip -n "$a" link set cable down
for ((i = 0; i < 250; ++i)); do
  [ -s "$work/code.0" ] && [ -s "$work/code.1" ] && break
  sleep 0.1
done
for rank in 0 1; do
  expect "after the cut, rank $rank ends with 124 (it was: $(cat "$work/code.$rank" 2>/dev/null))" \
    [ "$(cat "$work/code.$rank" 2>/dev/null)" = 124 ]
  expect "rank $rank says where it was" \
    grep -q "watchdog: rank $rank on host-.*is not done after 3 s; last collective: " "$work/output.$rank"
done
[ "$failures" -eq 0 ] || tail -n 20 "$work/mpirun" "$work"/output.*
kill "$job" 2>/dev/null
wait "$job" 2>/dev/null
[ "$failures" -eq 0 ]
