#!/usr/bin/env bash
# Google Kubernetes Engine through XPK, on TPUs or GPUs: one process per node. Preempted runs start again and go on.
#
#   CLUSTER=my-cluster PROJECT=my-project ZONE=us-east5-a IMAGE=REGISTRY/jax_mspac TPU_TYPE=v6e-16 \
#     launch/gke_xpk.sh [--dry-run] --config configs/sysu.py --workdir /shared/runs/sysu [--config.train.steps=100 ...]
#
# What must be set in the environment:
#   CLUSTER, PROJECT, ZONE   of a cluster that `xpk cluster create` made
#   IMAGE                    a container image with this repository as its working directory, and JAX for TPU or GPU:
#                            launch/Dockerfile builds it
#   TPU_TYPE                 such as v6e-16, for TPUs; or
#   DEVICE_TYPE              such as h100-mega-80gb-8, for GPUs
# What may be set:
#   NODES      GPU nodes, or TPU slices (1)
#   NAME       of the workload (jax-mspac)
#   RESTARTS   how often it may start again (10)
#   STORAGE    of `xpk storage`: the workdir must be on one that all nodes mount, such as Filestore
# Google moves XPK's users to the Cluster Toolkit: there it is `gcluster job submit` with the same --command, --name,
# --cluster, --project, --image, --num-slices or --num-nodes and --restart-on-exit-codes, and --location (--zone),
# --compute-type (--tpu-type, --device-type), --restarts (--max-restarts), --grace-period and --mount (--storage).
set -euo pipefail

dry_run=
if [ "${1-}" = --dry-run ]; then
  dry_run=yes
  shift
fi
: "${CLUSTER:?is not set, see the head of $0}" "${PROJECT:?is not set, see the head of $0}"
: "${ZONE:?is not set, see the head of $0}" "${IMAGE:?is not set, see the head of $0}"
if [ -z "${TPU_TYPE-}" ] && [ -z "${DEVICE_TYPE-}" ]; then
  echo "$0: set TPU_TYPE or DEVICE_TYPE, see its head" >&2
  exit 2
fi

if [ "${TPU_TYPE-}" ]; then
  hardware=(--tpu-type="$TPU_TYPE" --num-slices="${NODES:-1}")
  joining=--distributed
else
  hardware=(--device-type="$DEVICE_TYPE" --num-nodes="${NODES:-1}")
  # XPK sets these in the pods.
  # shellcheck disable=SC2016
  joining='--coordinator_address=$JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT --num_processes=$NNODES'
  # shellcheck disable=SC2016
  joining+=' --process_id=$NODE_RANK'
fi
# exec: the SIGTERM that announces the end of a pod must reach Python.
command=(xpk workload create --workload="${NAME:-jax-mspac}" --cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE"
  --docker-image="$IMAGE" "${hardware[@]}" ${STORAGE:+--storage="$STORAGE"} --max-restarts="${RESTARTS:-10}"
  --restart-on-exit-codes=75 --termination-grace-period-seconds=180
  --command="exec python -m jax_mspac.main $joining ${*@Q}")
if [ "$dry_run" ]; then
  echo "${command[*]@Q}"
else
  exec "${command[@]}"
fi
