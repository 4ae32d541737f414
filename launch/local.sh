#!/usr/bin/env bash
# Several processes on this machine, on its CPU: a rehearsal of a run on many hosts.
#
#   launch/local.sh [--dry-run] N --config configs/demo.py --workdir DIR [--config.train.steps=100 ...]
#
# N is the number of processes; batch.identities must be a multiple of N x CPU_DEVICES. SIGTERM and Ctrl-C let all of
# them save, and the exit status is 75 then. What may be set in the environment:
#   CPU_DEVICES   devices of each process (1)
#   PORT          a free port of this machine (a random one)
#   PYTHON        the Python to run (python)
set -euo pipefail

dry_run=
if [ "${1-}" = --dry-run ]; then
  dry_run=yes
  shift
fi
count=${1-}
if ! [[ $count =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 [--dry-run] N --config FILE [--workdir DIR] [overrides]" >&2
  exit 2
fi
shift

address=localhost:${PORT:-$((20000 + RANDOM % 20000))}
pids=()
stopped=
trap 'stopped=yes' TERM INT # until all have started, and then are told
for ((id = 0; id < count; id++)); do
  command=(env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="${CPU_DEVICES:-1}" "${PYTHON:-python}" -m jax_mspac.main
    --coordinator_address="$address" --num_processes="$count" --process_id="$id" "$@")
  if [ "$dry_run" ]; then
    echo "${command[*]@Q}"
  else
    "${command[@]}" &
    pids+=($!)
  fi
done

trap 'kill -TERM "${pids[@]}" 2> /dev/null || true' TERM INT
if [ "$stopped" ]; then
  kill -TERM "${pids[@]}" 2> /dev/null || true
fi
status=0
failed=
patience=25 # times 0.2 s
while ((${#pids[@]} > 0)); do
  for id in "${!pids[@]}"; do
    if kill -0 "${pids[id]}" 2> /dev/null; then
      continue
    fi
    code=0
    wait "${pids[id]}" || code=$?
    unset "pids[id]"
    if ((code == 75 && status == 0)); then
      status=75
    elif ((code != 0 && code != 75)) && [ -z "$failed" ]; then
      status=$code
      failed=yes
    fi
  done
  # A process that failed leaves the others waiting for it, and TERM would only ask them to save.
  if [ "$failed" ] && ((patience-- == 0)); then
    kill -KILL "${pids[@]}" 2> /dev/null || true
  fi
  sleep 0.2 || true # `wait -n` would miss those that end before it is called (bash 5.2), and Ctrl-C reaches the sleep
done
exit "$status"
