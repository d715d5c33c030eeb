"""Shares of a run's time, by a profiler: arithmetic, and everything around it."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.random_pairs import SIZES, random_experiment, random_pair, random_rows
from statebridge.engine.run_experiment import run_experiment
from statebridge.models.pair import Pair
from statebridge.run import Run

TORCH, MODELS = "torch operations", "transformers and torch.nn in Python"
STEP = "Statebridge's decoding, attention and writing of states in Python"
NNSIGHT = "nnsight"
AROUND = "planning, prompts, scoring and committing"
OVERHEAD = (NNSIGHT, AROUND)
"""Costs of a run beside the two models' own work."""

HASHING = "hashing the weights"
_STEP_PARTS = (
    "/engine/decoding/",
    "/engine/cuda_graphs/",
    "/engine/executors/",
    "/statebridge/channels/",
    "/models/onednn_layers.py",
)


def overhead_shares(pair: Pair, rows: int, prompt: int, new: int) -> dict[str, float]:
    """Shares of the time of a run from planning to scores, by where the profiler found it.

    The profiler makes each Python call more expensive and leaves the arithmetic as it is, so the
    shares of Python are upper bounds. Built-in functions count to their caller.
    Hashing the weights, once for a run however long, is left out of the sum.
    """
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="statebridge-bench-") as name:
        folder = Path(name)
        examples = random_rows([prompt] * rows)
        experiment = random_experiment(
            pair, folder, examples, "published-strict", max_new_tokens=new, relay_max_new_tokens=new
        )
        profile.enable()
        run_experiment(experiment, folder / "run", pair=pair)
        Run(folder / "run").scores()
        profile.disable()
    seconds = dict.fromkeys((TORCH, MODELS, STEP, NNSIGHT, AROUND, HASHING), 0.0)
    stats: _Stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, own, _, callers) in stats.items():
        if file != "~":
            seconds[_where(file)] += own
        elif "hashlib" in function:
            seconds[HASHING] += own
        elif "torch" in function or "TensorBase" in function:
            seconds[TORCH] += own
        else:
            for (caller, _, _), (_, _, part, _) in callers.items():
                seconds[_where(caller)] += part
    del seconds[HASHING]
    whole = sum(seconds.values())
    return {name: value / whole for name, value in seconds.items()}


_Function = tuple[str, int, str]
_Times = tuple[int, int, float, float]
_Stats = dict[_Function, tuple[int, int, float, float, dict[_Function, _Times]]]


def _where(file: str) -> str:
    path = file.replace("\\", "/")
    if "/nnsight/" in path or "/greenlet" in path:
        return NNSIGHT
    if "/transformers/" in path or "/torch/" in path:
        return MODELS
    return STEP if any(part in path for part in _STEP_PARTS) else AROUND


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the shares for one size, and what is overhead of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="160m-410m")
    parser.add_argument("--rows", type=int, default=4, help="rows under 25 cells")
    parser.add_argument("--prompt", type=int, default=45)
    parser.add_argument("--new", type=int, default=64)
    given = parser.parse_args(arguments)
    shares = overhead_shares(random_pair(given.size), given.rows, given.prompt, given.new)
    for what, share in shares.items():
        print(f"{share:6.1%}  {what}")
    print(f"{sum(shares[what] for what in OVERHEAD):6.1%}  overhead: {' and '.join(OVERHEAD)}")


if __name__ == "__main__":
    main()
