#!/usr/bin/env bash
# Everything that is measured on one NVIDIA GPU, in about half an hour:
#
#     benchmarks/gpu.sh [FOLDER]
#     benchmarks/gpu.sh --quick [FOLDER]
#
# The tests that need a GPU; the published forward set (24 files) of 160M to 410M shapes in
# float32 and bf16, with the dynamic step and with CUDA graphs, twice each (the first warms
# up); the tokens against the one-row float32 oracle on the CPU; the methods side by side; and
# FOLDER/gpu.md with the tables. --quick rehearses it on the CPU in about a minute: the demo
# size, a few rows, and the static step without a graph in the graph's place.
set -euo pipefail
cd "$(dirname "$0")/.."
quick=
if [ "${1:-}" = --quick ]; then
  quick=1
  shift
fi
out="${1:-gpu-benchmark}"
python="${PYTHON:-.venv/bin/python}"

cat <<'TXT'
gpu.sh needs: an NVIDIA GPU with about 100 GB free (with less, groups of lanes are smaller and
times longer), a CUDA build of torch, the packages of the extras "engine" and "dev", 4 CPU
cores and 16 GB of memory for the oracle, about half an hour. Nothing is downloaded.
TXT

if [ -n "$quick" ]; then
  device=cpu size=demo other=static
  published="--rows 3 --new-tokens 12 --repeats 1"
  flips="--sizes demo --rows 2 --new-tokens 6"
  sweep="--quick"
else
  "$python" - <<'PY'
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh: torch finds no CUDA here; run it on a machine with an NVIDIA GPU and a CUDA "
             "build of torch")
free, whole = torch.cuda.mem_get_info()
print(f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} of {whole / 1e9:.0f} GB free, "
      f"torch {torch.__version__}, CUDA {torch.version.cuda}")
PY
  device=cuda size=160m-410m other=graph
  published="--repeats 2"
  # 30 lanes of five conditions: the oracle runs on the CPU, seconds a lane.
  flips="--sizes 160m-410m --rows 6"
  sweep="--sizes 160m-410m --lanes 1000"
fi
mkdir -p "$out"
if [ -z "$quick" ]; then
  "$python" -m pytest -q tests/bridge/engine/test_cuda_graphs.py 2>&1 | tee "$out/tests.txt" ||
    echo "gpu.sh: a test failed, see $out/tests.txt; measuring goes on"
fi

rm -f "$out/published.jsonl"
for dtype in float32 bfloat16; do
  for step in dynamic "$other"; do
    # shellcheck disable=SC2086
    "$python" benchmarks/published_set.py --size "$size" --device "$device" --dtype "$dtype" \
      --step "$step" $published --json "$out/published.jsonl"
  done
done
for step in dynamic "$other"; do
  # shellcheck disable=SC2086
  "$python" benchmarks/flips.py $flips --device "$device" --step "$step" --out "$out/flips-$step"
done
if [ -z "$quick" ]; then
  "$python" benchmarks/flips.py --sizes demo --rows 40 --device "$device" --step "$other" \
    --out "$out/flips-demo"
fi
for dtype in float32 bfloat16; do
  # shellcheck disable=SC2086
  "$python" benchmarks/sweep.py $sweep --device "$device" --dtype "$dtype" --step "$other" \
    --out "$out/sweep-$dtype"
done

{
  "$python" - "$out/published.jsonl" <<'PY'
import json
import sys
from pathlib import Path
runs = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
keys = ("date", "device", "dtype", "step", "files", "lanes", "max_lanes", "seconds",
        "seconds_of_scoring", "peak_gigabytes", "reserved_gigabytes", "graphs", "capture_failed")
print("| date | device | dtype | step | files | lanes | at once | s | of it scoring | peak memory, "
      "GB | reserved, GB | graphs | capture failed |")
print("|" + "---|" * len(keys))
for run in runs:
    print("| " + " | ".join(str(run.get(key, "")) for key in keys) + " |")
# Of each kind the last run: the first one warms up.
last = {(run["dtype"], run["step"]): run["seconds"] for run in runs}
print()
for (dtype, step), seconds in last.items():
    if step != "dynamic":
        dynamic = last[dtype, "dynamic"]
        print(f"{dtype}: dynamic {dynamic} s, {step} {seconds} s, {dynamic / seconds:.2f} times.")
PY
  for table in "flips-dynamic" "flips-$other" flips-demo sweep-float32 sweep-bfloat16; do
    if [ -f "$out/$table.md" ]; then
      echo
      cat "$out/$table.md"
    fi
  done
} > "$out/gpu.md"
cat "$out/gpu.md"
