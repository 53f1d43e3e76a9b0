#!/bin/sh
# DARTSformer's two trends at small scale: the width of the search, and the number of splits.
# $1 is a folder that holds multi30k-en-de, the others are seeds.
set -eu
DATA="$1"; shift
export OMP_NUM_THREADS=1
TASK="task.lowercase=true task.vocabulary=4000 task.shared_vocabulary=true task.max_length=60"

# search NAME SEED LIMIT SETTING…: a search alone, its derived architecture hardly trained
search() {
  name="$1"; seed="$2"; limit="$3"; shift 3
  if [ -d "runs/trend-$name-$seed" ]; then nasformer resume "runs/trend-$name-$seed"; else
    # shellcheck disable=SC2086
    nasformer search dartsformer-small "task.path=$DATA/multi30k-en-de" $TASK "objective.max_core_parameters=$limit" \
      strategy.training.updates=400 strategy.training.schedule.warmup=100 fine_tune.updates=1 task.test_sentences=10 \
      strategy.backward=stored strategy.one_at_a_time=false 'controls=[]' "$@" "seed=$seed" --run "runs/trend-$name-$seed"; fi
}

# train NAME SEED DIM [FOLDER]: the architecture that the search found, from scratch, at this width
train() {
  folder="runs/trend-$1-$2-${4:-trained}"
  if [ -d "$folder" ]; then nasformer resume "$folder"; return; fi
  python - "runs/trend-$1-$2" "$3" <<'PYTHON'
import json, sys
folder, dim = sys.argv[1], int(sys.argv[2])
architecture = json.load(open(f"{folder}/architectures/best.json"))
for stack in ("encoder", "decoder"):
    architecture[stack]["dim"] = dim
json.dump(architecture, open(f"{folder}/at_{dim}.json", "w"))
PYTHON
  # shellcheck disable=SC2086
  nasformer train "runs/trend-$1-$2/at_$3.json" --task "$DATA/multi30k-en-de" $TASK dropout.residual=0.1 \
    training.updates=800 training.batch_tokens=1024 training.schedule.peak=0.001 training.schedule.warmup=100 \
    "seed=$2" --run "$folder"
}

for seed in "$@"; do  # limits in proportion to the square of the width
  for dim in 24 48 96; do
    search "width$dim" "$seed" $((110000 * dim * dim / 9216)) "space.settings.dim=$dim"
    train "width$dim" "$seed" 96
  done
  train width24 "$seed" 120 as-large  # where it has the size of what width96 found
  for splits in 2 3 4; do
    search "splits$splits" "$seed" 110000 space.settings.dim=120 space.settings.heads=2 "space.settings.splits=$splits"
    train "splits$splits" "$seed" 120
  done
done
