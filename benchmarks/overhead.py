"""What a run's time goes to, by a profiler: arithmetic, and everything around it."""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from pathlib import Path

from benchmarks.random_pairs import random_experiment, random_rows
from statebridge.commands.score_table import condition_scores
from statebridge.engine.run import run_experiment
from statebridge.models.pair import Pair
from statebridge.results.rundir import read_run

TORCH, MODELS = "torch operations", "transformers and torch.nn in Python"
NNSIGHT, STATEBRIDGE = "nnsight", "Statebridge and what it calls"
HASHING = "hashing the weights"


def overhead_shares(pair: Pair, rows: int, prompt: int, new: int) -> dict[str, float]:
    """Shares of the time of a run from planning to scores, by where the profiler found it.

    The profiler makes each Python call dearer and leaves the arithmetic as it is, so that the
    shares of Python are upper bounds. Hashing the weights, once for a run however long, is
    left out of the sum.
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
        condition_scores(read_run(folder / "run"))
        profile.disable()
    seconds = dict.fromkeys((TORCH, MODELS, NNSIGHT, STATEBRIDGE), 0.0)
    for (file, _, function), entry in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        where = _where(file, function)
        if where != HASHING:
            seconds[where] += entry[2]
    whole = sum(seconds.values())
    return {name: value / whole for name, value in seconds.items()}


def _where(file: str, function: str) -> str:
    if file == "~":
        if "hashlib" in function or "_hashlib" in function:
            return HASHING
        return TORCH if "torch" in function or "TensorBase" in function else STATEBRIDGE
    path = file.replace("\\", "/")
    if "/nnsight/" in path or "/greenlet" in path:
        return NNSIGHT
    return MODELS if "/transformers/" in path or "/torch/" in path else STATEBRIDGE
