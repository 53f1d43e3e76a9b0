#!/bin/sh
# The runs behind docs/results.md, in the order of their worth. $1 is a folder that holds multi30k-en-de, tatoeba-en-de,
# english-novels and tinyshakespeare. Stopped and started again, it goes on.
set -eu
DATA="${1:?give the folder that holds multi30k-en-de, tatoeba-en-de, english-novels and tinyshakespeare}"
export OMP_NUM_THREADS=1
multi30k="task.path=$DATA/multi30k-en-de task.lowercase=true strategy.divergence_members=0"
first="tuned_fixed_total,halving,average,tuned_transformer_total"

# search NAME ARGUMENT…
search() {
  name="$1"; shift
  if [ -d "runs/$name" ]; then nasformer resume "runs/$name"; else nasformer search "$@" --run "runs/$name"; fi
}

# (a) found and its controls, 1,600 updates, then 6,400, larger, and other data
for seed in 1 2 3; do
  # shellcheck disable=SC2086
  search "m30k-145k-1600-$seed" shrinknas-small $multi30k objective.max_core_parameters=145k \
    strategy.training.updates=1000 fine_tune.updates=600 fine_tune.validate_every=200 "seed=$seed" \
    "controls=[$first,tuned_fixed,tuned_transformer,sizes_only,random_search,fine_tuned,retrained]"
done
for seed in 1 2 3; do
  # shellcheck disable=SC2086
  search "m30k-145k-6400-$seed" shrinknas-small $multi30k objective.max_core_parameters=145k \
    strategy.training.updates=4000 fine_tune.updates=2400 fine_tune.validate_every=400 "seed=$seed" \
    "controls=[$first,fine_tuned,retrained]"
done
# shellcheck disable=SC2086
search m30k-500k-6400 shrinknas-small $multi30k objective.max_core_parameters=500k \
  'space.settings.dims=[96,128,160,192]' strategy.training.updates=4000 fine_tune.updates=2400 "controls=[$first]"
# shellcheck disable=SC2086
search m30k-1800k-2000 shrinknas $multi30k objective.max_core_parameters=1.8M \
  strategy.training.updates=1250 fine_tune.updates=750 "controls=[$first]"
search tatoeba-250k-10000 shrinknas-small "task.path=$DATA/tatoeba-en-de" task.source=en task.target=de \
  objective.max_core_parameters=250k strategy.training.updates=6250 fine_tune.updates=3750 \
  strategy.divergence_members=0 "controls=[$first]"

# does the sweep find the rate? three arms, two lengths
for network in plain-3-1 lite-3-1 plain-2-1; do for updates in 400 1600; do for peak in auto 3e-3 6e-3 1.2e-2 2.4e-2; do
  folder="runs/rate-$network-$updates-$peak"
  if [ -d "$folder" ]; then nasformer resume "$folder"; else
    nasformer train "docs/architectures/$network.json" --task "$DATA/multi30k-en-de" task.lowercase=true \
      task.vocabulary=4000 "training.updates=$updates" training.batch_tokens=1024 "training.schedule.peak=$peak" \
      dropout.residual=0.1 --run "$folder"
  fi
done; done; done

# (c) the other three methods
for seed in 1 2 3; do
  for splits in 2 3; do
    search "m30k-darts-$splits-$seed" dartsformer-small "task.path=$DATA/multi30k-en-de" task.lowercase=true \
      objective.max_core_parameters=110k "space.settings.splits=$splits" \
      'controls=[tuned_transformer_total,tuned_fixed_total,average,uniform_sampling,plain_darts]' "seed=$seed"
  done
  search "rome-transformer-$seed" rome-transformer "task.path=$DATA/tinyshakespeare" "seed=$seed"
done
known="controls=[start,gelu,squared_relu,convolved,transformer_plus_plus,primer_ez,primer]"
for budget in 10 30 100; do
  search "primer-novels-$budget" primer "task.path=$DATA/english-novels" "strategy.budget=$budget" strategy.programs=0 \
    strategy.confirmation.runs=3 strategy.confirmation.noise=5 "$known"
done
search primer-evolution-300 primer "task.path=$DATA/english-novels" strategy.programs=300 strategy.workers=1 \
  'controls=[start,random_mutation,primer_ez,primer,longer,longer_start,wider,wider_start]'

# shellcheck disable=SC2086
search m30k-correlation shrinknas-small $multi30k objective.max_core_parameters=145k \
  strategy.training.updates=1000 fine_tune.updates=600 'controls=[]' correlation=20
python -m benchmarks --data "$DATA/multi30k-en-de"
