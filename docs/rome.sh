#!/bin/sh
# Searches of cells at small scale (docs/papers/rome.md §8). $1 is a folder that holds cifar10-jpeg, tinyshakespeare and
# nas-tables, $2 what to run, the others are seeds. Stopped and started again, it goes on.
set -eu
DATA="$1"; what="$2"; shift 2
export OMP_NUM_THREADS=1
table="table=$DATA/nas-tables/nas-bench-201-mini/accuracies.csv.gz"

# search NAME ARGUMENT…
search() {
  name="$1"; shift
  if [ -d "runs/$name" ]; then nasformer resume "runs/$name"; else nasformer search "$@" --run "runs/$name"; fi
}

for seed in "$@"; do
  case "$what" in
    table)  # NAS-Bench-201 looked up after 12 epochs
      search "rome-table-$seed" rome-nasbench201 "task.path=$DATA/cifar10-jpeg" "seed=$seed" \
        "$table" 'controls=[random_architecture,gdas,darts,table_best]' ;;
    longer)  # the same search with four times the updates
      search "rome-table-longer-$seed" rome-nasbench201 "task.path=$DATA/cifar10-jpeg" "seed=$seed" \
        "$table" strategy.training.updates=1600 'controls=[]' ;;
    noise)  # S4 with three times the updates, and with logits three times as fast
      for change in training.updates=900 logits.rate=0.03; do
        search "rome-s4-$change-$seed" rome-small "task.path=$DATA/cifar10-jpeg" "seed=$seed" space.name=s4 \
          "strategy.$change" 'controls=[]'
      done ;;
    images)  # S2 and S4, all arms at the size of the search
      for space in s2 s4; do
        search "rome-$space-$seed" rome-small "task.path=$DATA/cifar10-jpeg" "seed=$seed" "space.name=$space"
      done ;;
    text)  # T2 and T4
      for space in t2 t4; do
        search "rome-$space-$seed" rome-language "task.path=$DATA/tinyshakespeare" task.vocabulary=characters \
          "seed=$seed" "space.name=$space" 'controls=[random_architecture,gdas,darts,transformer]' random_architectures=3
      done ;;
    ablation)  # one part of ROME at a time, equal passes, on S2
      search "rome-ablation-$seed" rome-small "task.path=$DATA/cifar10-jpeg" "seed=$seed" \
        'controls=[gdas,all_edges,single_sample,gathered_weights,gathered_logits]' ;;
    ranks)  # losses on inherited weights against training alone, cells of 8 and of 14 edges
      search "rome-ranks-$seed" rome-language "task.path=$DATA/tinyshakespeare" task.vocabulary=characters \
        "seed=$seed" space.name=t2 'controls=[all_edges,gdas]' correlation=30 fine_tune.updates=600 ;;
  esac
done
