"""The tables of the stages of `benchmarks/gpu.sh` that have run, as one page.

python benchmarks/gpu_report.py gpu-benchmark

writes `gpu-benchmark/gpu.md`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KEYS = {
    "date": "date",
    "device": "device",
    "dtype": "dtype",
    "step": "step",
    "files": "files",
    "lanes": "lanes",
    "max_lanes": "at once",
    "seconds": "s",
    "seconds_of_scoring": "of it scoring",
    "peak_gigabytes": "peak memory, GB",
    "reserved_gigabytes": "reserved, GB",
    "graphs": "graphs",
    "capture_failed": "capture failed",
}


def report(folder: Path) -> str:
    """Return the page: the published set, then the tables of the other stages."""
    runs: list[dict[str, Any]] = [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text("utf-8").splitlines()
    ]
    lines = [f"| {' | '.join(KEYS.values())} |", f"|{'---|' * len(KEYS)}"]
    lines += [f"| {' | '.join(str(run.get(key, '')) for key in KEYS)} |" for run in runs]
    # The last run of each kind: the first one warms up.
    last = {(run["dtype"], run["step"]): run["seconds"] for run in runs}
    for (dtype, step), seconds in last.items():
        dynamic = last.get((dtype, "dynamic"))
        if step != "dynamic" and dynamic is not None:
            ratio = f"{dynamic / seconds:.2f} times"
            lines += ["", f"{dtype}: dynamic {dynamic} s, {step} {seconds} s, {ratio}."]
    for table in sorted(folder.glob("*.md")):
        if table.name != "gpu.md":
            lines += ["", table.read_text("utf-8").rstrip()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    out = Path(sys.argv[1])
    page = report(out)
    (out / "gpu.md").write_text(page, "utf-8")
    print(page)
