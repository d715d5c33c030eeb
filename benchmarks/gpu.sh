#!/usr/bin/env bash
# Everything that is measured on one NVIDIA GPU, in about a quarter of an hour:
#
#     benchmarks/gpu.sh [FOLDER]
#
# The published forward set (24 files) of 160M to 410M shapes in float32 and bf16, twice each
# (the first warms up), the tokens against the one-row float32 oracle on the CPU, the methods
# side by side, and FOLDER/gpu.md with the tables.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-gpu-benchmark}"
python="${PYTHON:-.venv/bin/python}"
mkdir -p "$out"

"$python" - <<'PY'
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh: torch finds no CUDA here; run it on a machine with an NVIDIA GPU and a CUDA "
             "build of torch")
PY

rm -f "$out/published.jsonl"
for dtype in float32 bfloat16; do
  "$python" benchmarks/published_set.py --size 160m-410m --device cuda --dtype "$dtype" \
    --repeats 2 --json "$out/published.jsonl"
done
# 30 lanes of five conditions: the oracle runs on the CPU, seconds a lane.
"$python" benchmarks/flips.py --sizes 160m-410m --rows 6 --device cuda --out "$out/flips"
"$python" benchmarks/flips.py --sizes demo --rows 40 --device cuda --out "$out/flips-demo"
for dtype in float32 bfloat16; do
  "$python" benchmarks/sweep.py --sizes 160m-410m --device cuda --dtype "$dtype" --lanes 1000 \
    --out "$out/sweep-$dtype"
done

{
  "$python" - "$out/published.jsonl" <<'PY'
import json
import sys
from pathlib import Path
runs = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
print("| date | device | dtype | files | lanes | at once | s | of it scoring | peak memory, GB |")
print("|---|---|---|---|---|---|---|---|---|")
for run in runs:
    keys = ("date", "device", "dtype", "files", "lanes", "max_lanes", "seconds",
            "seconds_of_scoring", "peak_gigabytes")
    print("| " + " | ".join(str(run[key]) for key in keys) + " |")
PY
  for table in flips flips-demo sweep-float32 sweep-bfloat16; do
    echo
    cat "$out/$table.md"
  done
} > "$out/gpu.md"
cat "$out/gpu.md"
