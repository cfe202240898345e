#!/bin/sh
# The shards of a run as an array, each on a node of its own; then a job that joins and judges them:
#   id=$(sbatch --parsable slurm.sh)
#   sbatch --dependency=afterany:"$id" --wrap 'ctload merge shards/* --out whole'
#SBATCH --job-name=ctload
#SBATCH --array=1-5
#SBATCH --exclusive
#SBATCH --constraint=icelake
#SBATCH --requeue
#SBATCH --time=01:00:00
#SBATCH --output=ctload-%a.log
set -eu
out="shards/$SLURM_ARRAY_TASK_ID"
rm -rf "$out" # of a task that a dead node has left, and that is requeued
ctload run table-full --trials 5 --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --out "$out"
