#!/bin/sh
# The runs behind docs/results.md. $1 is a folder that holds multi30k-en-de and english-novels.
set -eu
DATA="${1:?give the folder that holds multi30k-en-de and english-novels}"
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
nasformer search shrinknas "task.path=$DATA/multi30k-en-de" task.lowercase=true objective.max_core_parameters=1.8M \
  dropout.residual=0.1 strategy.training.updates=600 strategy.training.batch_tokens=1024 \
  strategy.training.schedule.warmup=120 strategy.exploration.members=32 strategy.exploration.first_ranking=64 \
  strategy.exploration.validation_tokens=1024 strategy.divergence_members=50 strategy.divergence_tokens=128 \
  fine_tune.updates=360 fine_tune.batch_tokens=1024 fine_tune.schedule.warmup=120 \
  'controls=[transformer,lite_transformer]' --run runs/m30k-paper-space
nasformer search shrinknas-small "task.path=$DATA/multi30k-en-de" task.lowercase=true \
  objective.max_core_parameters=250k strategy.training.updates=600 strategy.training.schedule.warmup=120 \
  fine_tune.updates=300 fine_tune.schedule.warmup=120 strategy.divergence_members=0 'controls=[transformer]' \
  correlation=20 --run runs/m30k-correlation
python -m benchmarks --data "$DATA/multi30k-en-de"
for seed in 1 2 3; do
  nasformer search dartsformer-small "task.path=$DATA/multi30k-en-de" task.lowercase=true \
    objective.max_core_parameters=110k strategy.training.updates=400 strategy.training.schedule.warmup=100 \
    fine_tune.updates=800 fine_tune.schedule.warmup=100 \
    'controls=[transformer,random_architecture,uniform_sampling,plain_darts,other_zero]' "seed=$seed" \
    --run "runs/m30k-darts-limit-$seed"
done
for budget in 10 30; do
  nasformer search primer "task.path=$DATA/english-novels" "strategy.budget=$budget" strategy.programs=0 \
    strategy.confirmation.runs=3 strategy.confirmation.noise=5 \
    'controls=[start,gelu,squared_relu,convolved,transformer_plus_plus,primer_ez,primer]' --run "runs/primer-novels-$budget"
  nasformer search primer "strategy.budget=$budget" strategy.programs=0 \
    strategy.confirmation.runs=3 strategy.confirmation.noise=5 \
    'controls=[start,gelu,squared_relu,convolved,transformer_plus_plus,primer_ez,primer]' --run "runs/primer-source-$budget"
done
nasformer search primer "task.path=$DATA/english-novels" strategy.programs=300 strategy.workers=1 \
  'controls=[start,random_mutation,primer_ez,primer,longer,longer_start,wider,wider_start]' --run runs/primer-evolution-300
