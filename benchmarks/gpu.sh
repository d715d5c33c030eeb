#!/usr/bin/env bash
# The measurements on one NVIDIA GPU, in stages that each end within nine minutes.
#
#     benchmarks/gpu.sh [--quick] [--out FOLDER] [STAGE ...]
#
# Without a STAGE all of them run, in this order:
#
#     tests                the tests that need a GPU
#     float32-dynamic      the published forward set (24 files) at 160M to 410M shapes, twice:
#     float32-graph          the first run warms up
#     bfloat16-dynamic
#     bfloat16-graph
#     flips-dynamic        tokens against the one-row float32 oracle on the CPU
#     flips-graph
#     flips-demo           the same at the demo size, with more rows
#     methods-float32      all methods side by side
#     methods-bfloat16
#     report               FOLDER/gpu.md: the tables of the stages that have run
#
# A stage that takes longer than nine minutes is stopped. Stages may run apart, in any order, on
# any day; each writes its own files into FOLDER (gpu-benchmark if not given).
#
# --quick rehearses the stages on a CPU in small: the demo size, a few rows, and the static step
# without a graph in the place of the graph.
#
# Needs an NVIDIA GPU with about 100 GB free (with less, groups of lanes are smaller and times
# longer), a CUDA build of torch, the packages of the extras "engine" and "dev", and 4 CPU cores
# and 16 GB of memory for the oracle. Nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
limit="${STAGE_SECONDS:-540}"
all="tests float32-dynamic float32-graph bfloat16-dynamic bfloat16-graph flips-dynamic flips-graph
  flips-demo methods-float32 methods-bfloat16 report"

quick= out=gpu-benchmark stages=
while [ $# -gt 0 ]; do
  case "$1" in
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' benchmarks/gpu.sh; exit ;;
    --quick) quick=1 ;;
    --out) out="${2:?gpu.sh: --out needs a folder}"; shift ;;
    *)
      case " $(echo $all) " in
        *" $1 "*) stages="$stages $1" ;;
        *) echo "gpu.sh: no stage $1; benchmarks/gpu.sh --help lists them" >&2; exit 2 ;;
      esac ;;
  esac
  shift
done

if [ -n "$quick" ]; then
  device=cpu size=demo graph=static
  published="--rows 3 --new-tokens 12 --repeats 1" flips="--rows 2 --new-tokens 6" methods=--quick
  demo_rows=2
else
  device=cuda size=160m-410m graph=graph
  # 30 lanes of five conditions in the flip report: the oracle takes seconds a lane on the CPU.
  published="--repeats 2" flips="--rows 6" methods="--sizes 160m-410m --lanes 1000"
  demo_rows=40
fi

# shellcheck disable=SC2086
run_stage() {
  local step="${1##*-}" dtype="${1%%-*}"
  [ "$step" = graph ] && step=$graph
  case "$1" in
    tests)
      [ -n "$quick" ] || bounded -m pytest -q -n0 tests/bridge/engine/cuda_graphs/test_on_a_gpu.py \
        > "$out/tests.txt" 2>&1 ;;
    *-dynamic | *-graph)
      if [ "$dtype" = flips ]; then
        bounded benchmarks/flips.py --sizes "$size" $flips --device "$device" --step "$step" \
          --out "$out/$1"
      else
        rm -f "$out/$1.jsonl"
        bounded benchmarks/published_set.py --size "$size" --device "$device" --dtype "$dtype" \
          --step "$step" $published --json "$out/$1.jsonl"
      fi ;;
    flips-demo)
      bounded benchmarks/flips.py --sizes demo --rows "$demo_rows" --device "$device" --step "$graph" \
        --out "$out/$1" ;;
    methods-*)
      bounded benchmarks/side_by_side.py $methods --device "$device" --dtype "$step" \
        --step "$graph" --out "$out/$1" ;;
    report) "$python" benchmarks/gpu_report.py "$out" ;;
  esac
}

bounded() {
  timeout "$limit" "$python" "$@"
}

if [ -z "$quick" ]; then
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
fi
mkdir -p "$out"
failed=
for stage in ${stages:-$all}; do
  echo "== $stage"
  if ! run_stage "$stage"; then
    echo "gpu.sh: stage $stage failed or took longer than $limit s; the others go on" >&2
    failed=1
  fi
done
[ -z "$failed" ]
