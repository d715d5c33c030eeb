"""Runs experiments through the library alone, models loaded once: a line in, a line out.

Started by `benchmarks/service.py`. Each line of standard input names an experiment file and a
run directory, as a JSON list; each line of standard output has the seconds of that call of
`run_experiment`, and of its groups.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
import transformers

from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import load_experiment
from statebridge.models.pair import Pair, load_pair


def main() -> None:
    transformers.logging.set_verbosity_error()
    pair: Pair | None = None
    for line in sys.stdin:
        file, out = json.loads(line)
        experiment = load_experiment(Path(file))
        pair = pair or load_pair(experiment)
        began, worked = time.perf_counter(), time.process_time()
        summary = run_experiment(experiment, out, pair=pair)
        answer = {
            "seconds": time.perf_counter() - began,
            "groups": summary.seconds,
            "cpu_seconds": {"worker": round(time.process_time() - worked, 2)},
            "lanes": summary.lanes,
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
