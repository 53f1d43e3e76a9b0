#!/bin/sh
# The runs behind docs/results.md. $1 is a folder that holds multi30k-en-de and english-novels.
set -eu
DATA="${1:?give the folder that holds multi30k-en-de and english-novels}"
export OMP_NUM_THREADS=1
for seed in 1 2 3; do
  nasformer search shrinknas-small "task.path=$DATA/multi30k-en-de" task.lowercase=true \
    objective.max_core_parameters=145k strategy.training.updates=1000 fine_tune.updates=600 \
    strategy.divergence_members=0 fine_tune.validate_every=200 "seed=$seed" \
    'controls=[tuned_fixed_total,halving,tuned_transformer_total,average,tuned_fixed,tuned_transformer,fine_tuned,retrained]' \
    --run "runs/m30k-145k-1600-$seed"
done
nasformer report runs/m30k-145k-1600-1 runs/m30k-145k-1600-2 runs/m30k-145k-1600-3
nasformer search shrinknas-small "task.path=$DATA/multi30k-en-de" task.lowercase=true \
  objective.max_core_parameters=250k strategy.training.updates=600 fine_tune.updates=300 strategy.divergence_members=0 'controls=[tuned_transformer]' \
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
