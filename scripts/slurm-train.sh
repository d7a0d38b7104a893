#!/usr/bin/env bash
# Train on several machines under SLURM: one torchrun on each, one rank on each GPU. Copy it, adapt the lines marked (*).
#
#   sbatch scripts/slurm-train.sh configs/my.yaml -o runs/large training.max_steps=100000
#
# What must be equal on all machines: this checkout or an installed seq2seq, the torch version, and the paths of corpus,
# run directory and cache, all three on a file system that every machine sees. Ranks that disagree end at the start with
# one line. On one machine no torchrun is needed: `seq2seq train CONFIG --devices 8`.
#
#SBATCH --job-name=seq2seq
#SBATCH --nodes=2                 # (*) machines
#SBATCH --ntasks-per-node=1       # one torchrun on each; it starts the ranks
#SBATCH --gpus-per-node=8         # (*)
#SBATCH --cpus-per-task=64        # (*) cores of a machine; preparing the corpus uses all of them
#SBATCH --time=24:00:00           # (*)
#SBATCH --signal=TERM@300         # 5 minutes before the time is up: finish the step, save, end
#SBATCH --requeue                 # and go on in a new job where the cluster allows it
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.log
set -euo pipefail

: "${GPUS_PER_NODE:=${SLURM_GPUS_ON_NODE:-8}}"
# source .venv/bin/activate       # (*) the environment that has seq2seq

# The batch size is that of all ranks together: results do not depend on the number of machines, but a rank wants about
# 25,000 tokens to keep a GPU busy, so 16 of them want training.batch_size=400000.
export SEQ2SEQ_CACHE=${SEQ2SEQ_CACHE:-$PWD/.cache}    # (*) on the shared file system

# All meet at the first machine of the job. The port is made from the job's number, so that two jobs do not collide.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

# (*) Networks with several interfaces: the one that the machines reach each other by.
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# torchrun restarts nothing (--max-restarts 0): the same sbatch command resumes from the last checkpoint.
exec srun --kill-on-bad-exit=1 torchrun \
  --nnodes="$SLURM_NNODES" \
  --nproc-per-node="$GPUS_PER_NODE" \
  --max-restarts=0 \
  --rdzv-id="$SLURM_JOB_ID" \
  --rdzv-backend=c10d \
  --rdzv-endpoint="$first:$port" \
  -m seq2seq train "$@"
