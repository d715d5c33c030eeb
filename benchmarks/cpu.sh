#!/usr/bin/env bash
# Everything that is measured on a CPU, in about twelve minutes on two free cores:
#
#     benchmarks/cpu.sh [FOLDER]
#
# writes FOLDER/cpu.md: the attention of one step, the published set on the demo-size pair,
# all methods side by side at three sizes, and the scaling table. The flip report has a
# command of its own (benchmarks/flips.py).
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-cpu-benchmark}"
python="${PYTHON:-.venv/bin/python}"
mkdir -p "$out"

"$python" benchmarks/attention.py | tee "$out/attention.md"
rm -f "$out/published.jsonl"
"$python" benchmarks/published_set.py --size demo --extra --json "$out/published.jsonl"
"$python" benchmarks/side_by_side.py --out "$out/methods"

{
  cat "$out/attention.md"
  echo
  sed 's/^/    /' "$out/published.jsonl"
  echo
  cat "$out/methods.md"
} > "$out/cpu.md"
echo "$out/cpu.md"
