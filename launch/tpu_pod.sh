#!/usr/bin/env bash
# A Cloud TPU pod slice without Kubernetes: one process on each of its hosts.
#
#   TPU=my-tpu PROJECT=my-project ZONE=us-east5-a FOLDER=/shared/jax_mspac \
#     launch/tpu_pod.sh [--dry-run] --config configs/sysu.py --workdir /shared/runs/sysu [--config.train.steps=100 ...]
#
# The same command again goes on where a run stopped. What must be set in the environment:
#   TPU, PROJECT, ZONE   of the slice
#   FOLDER               this repository on the hosts; its dependencies and jax[tpu] must be installed there
# What may be set:
#   PYTHON   the Python of the hosts (python3)
# The workdir must be on a file system that all hosts mount, such as Filestore.
# `gcloud compute tpus tpu-vm` gets no new features and does not know TPU7x and later: for those, and for new projects,
# use launch/gke_xpk.sh.
set -euo pipefail

dry_run=
if [ "${1-}" = --dry-run ]; then
  dry_run=yes
  shift
fi
: "${TPU:?is not set, see the head of $0}" "${PROJECT:?is not set, see the head of $0}"
: "${ZONE:?is not set, see the head of $0}" "${FOLDER:?is not set, see the head of $0}"

command=(gcloud compute tpus tpu-vm ssh "$TPU" --project="$PROJECT" --zone="$ZONE" --worker=all
  --command="cd ${FOLDER@Q} && exec ${PYTHON:-python3} -m jax_mspac.main --distributed ${*@Q}")
if [ "$dry_run" ]; then
  echo "${command[*]@Q}"
else
  exec "${command[@]}"
fi
