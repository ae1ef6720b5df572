#!/usr/bin/env bash
# Slurm: Ray on every node of one job, the sweep on the first of them; requeued, it runs what is missing.
#
# Cost:  nodes x GPUs a node x hours, as your site counts them; the job ends with the sweep.
#
# Once, in the checkout, on a file system that all nodes share (the results are written there, too):
#   python3 -m venv .venv && .venv/bin/pip install -r requirements.txt -c cluster/constraints.txt
#   .venv/bin/ray get-auth-token --generate                        # into your home, readable by you alone
#   .venv/bin/python -m flexres_tune.doctor --here --dataset cifar10    # fetched once, into your home
#
# Start:   sbatch --nodes=2 --gpus-per-node=4 --cpus-per-task=64 --time=04:00:00 cluster/slurm.sh sweeps/optim.yaml
#          (partition and account as your site wants them; what follows the sweep goes to `run`, such as --profile none)
# Watch:   tail -f slurm-JOBID.out         .venv/bin/python -m flexres_tune.query status
# Fetch:   nothing to fetch: the tables are in results/, while it runs and afterwards
# Stop:    scancel JOBID                   # the same sbatch goes on where it was
#
# Two minutes before its time is up trials save where they are, and the job puts itself back into the queue; there they
# go on. One that is ended without notice goes on from its trials' checkpoints of the last 10 s. Secure by default: every
# call inside the cluster carries your token; ray[tune] has no dashboard that could be reached, and no Ray client.
#SBATCH --job-name=flexres-tune
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch: start this file with sbatch cluster/slurm.sh SWEEP}"
: "${1:?which sweep: sbatch cluster/slurm.sh sweeps/optim.yaml}"
[ -x .venv/bin/ray ] || { echo "$PWD/.venv/bin/ray must be there; see the head of cluster/slurm.sh" >&2; exit 2; }

PATH=$PWD/.venv/bin:$PATH
export PATH PYTHONPATH=$PWD RAY_AUTH_MODE=token RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r address _ < <(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a node
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
driver=${TMPDIR:-/tmp}/flexres_tune-$SLURM_JOB_ID.pid # on the first node, where this script runs, too

back_into_the_queue() {
  echo "time is nearly up: trials save where they are, and the job goes back into the queue"
  # the driver alone, while Ray is still there: scontrol ends Ray's processes and the trials' first
  if pid=$(cat "$driver" 2>/dev/null) && kill -TERM "$pid"; then
    for _ in {1..60}; do kill -0 "$pid" 2>/dev/null || break; sleep 1; done
  fi
  scontrol requeue "$SLURM_JOB_ID"
}
trap back_into_the_queue USR1

# --kill-on-bad-exit=0: a lost node takes its trials along, not the job
# shellcheck disable=SC2016  # $$ and $0 are the inner shell's: it becomes the driver
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=0 \
  ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$cpus" -- \
  bash -c 'echo $$ >"$0"; exec "$@"' "$driver" python -m flexres_tune.run --address "$address:$port" "$@" &
wait $! # a trap is only heard while the shell waits
