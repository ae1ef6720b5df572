#!/usr/bin/env bash
# Slurm: Ray on every node of one job, and the sweep on the first node. A requeued job runs what is missing.
#
# Cost:  nodes x GPUs per node x hours, as your site counts them; the job ends with the sweep.
#
# Once, in the checkout, on a file system that all nodes share (the results are written there too):
#   python3 -m venv .venv && .venv/bin/pip install -r requirements.txt -c cluster/constraints.txt
#   .venv/bin/ray get-auth-token --generate                        # into your home, readable only by you
#   .venv/bin/python -m flexres_tune.doctor --here --dataset cifar10    # downloaded once, into your home
#
# Start:   sbatch --nodes=2 --gpus-per-node=4 --cpus-per-task=64 --time=04:00:00 cluster/slurm.sh sweeps/optim.yaml
#          (add partition and account as your site requires; options after the sweep go to `run`, such as --profile none)
# Watch:   tail -f slurm-JOBID.out         .venv/bin/python -m flexres_tune.query status
# Fetch:   nothing to fetch: the tables are in results/, while it runs and afterwards
# Stop:    scancel JOBID                   # the same sbatch resumes
#
# Two minutes before the time limit, trials save checkpoints and the job requeues itself, then resumes. A job
# that is killed without notice resumes from checkpoints of the last 10 s. Secure by default: every call inside the cluster
# carries your token; ray[tune] has neither a dashboard nor a Ray client.
#SBATCH --job-name=flexres-tune
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch: start this file with sbatch cluster/slurm.sh SWEEP}"
: "${1:?which sweep: sbatch cluster/slurm.sh sweeps/optim.yaml}"
[ -x .venv/bin/ray ] || { echo "$PWD/.venv/bin/ray must be there; see the header of cluster/slurm.sh" >&2; exit 2; }

PATH=$PWD/.venv/bin:$PATH
export PATH PYTHONPATH=$PWD RAY_AUTH_MODE=token RAY_memory_monitor_refresh_ms=0 RAY_USAGE_STATS_ENABLED=0
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r address _ < <(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a node
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
driver=${TMPDIR:-/tmp}/flexres_tune-$SLURM_JOB_ID.pid # on the first node, where this script runs too

requeue_job() {
  echo "the time limit is near: trials save checkpoints, and the job is requeued"
  # end the driver while Ray still runs: scontrol requeue would first end the processes of Ray and of the trials
  if pid=$(cat "$driver" 2>/dev/null) && kill -TERM "$pid"; then
    for _ in {1..60}; do kill -0 "$pid" 2>/dev/null || break; sleep 1; done
  fi
  scontrol requeue "$SLURM_JOB_ID"
}
trap requeue_job USR1

# --kill-on-bad-exit=0: a lost node ends its trials, but not the job
# The doctor names damaged GPUs and slow nodes in the job's output; the sweep runs all the same.
# shellcheck disable=SC2016  # $$, $0 and $1 are those of the inner shell, which becomes the driver
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=0 \
  ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$cpus" -- \
  bash -c 'echo $$ >"$0"; python -m flexres_tune.doctor --address "$1" --speed || true; shift; exec "$@"' \
  "$driver" "$address:$port" python -m flexres_tune.run --address "$address:$port" "$@" &
wait $! # the shell runs a trap only while it waits
