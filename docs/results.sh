#!/bin/sh
# The runs behind docs/results.md. $1 is a folder that holds multi30k-en-de.
set -eu
DATA="${1:?give the folder that holds multi30k-en-de}"
export OMP_NUM_THREADS=1
for seed in 1 2 3; do
  nasformer search shrinknas-small "task.path=$DATA/multi30k-en-de" task.lowercase=true \
    objective.max_core_parameters=250k \
    strategy.training.updates=1000 strategy.training.schedule.warmup=200 \
    fine_tune.updates=600 fine_tune.schedule.warmup=200 "seed=$seed" \
    'controls=[random_search,spos,sizes_only,transformer,light_convolution,lite_transformer,space_reduction,selection,random_architecture,retrained]' \
    --run "runs/m30k-small-$seed"
done
nasformer report runs/m30k-small-1 runs/m30k-small-2 runs/m30k-small-3
