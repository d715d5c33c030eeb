"""The small layer search carried out on a tiny random pair."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from statebridge.engine.commit import Progress
from statebridge.engine.layer_search.search import LayerSearchSummary, run_layer_search
from statebridge.experiment import Experiment
from statebridge.models.pair import Pair
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair
from tests.bridge.layer_search.declared import tiny_layer_search


@functools.cache
def tiny_pair() -> Pair:
    """The pair, made once: a sender of 3 blocks, a receiver of 4."""
    return engine_pair(neox_pair())


def carried_out(
    out: Path, progress: Progress = lambda *_: None, **changes: Any
) -> LayerSearchSummary:
    """Run the layer search into a directory."""
    return run_layer_search(of_tiny_pair(**changes), out, pair=tiny_pair(), progress=progress)


def of_tiny_pair(**changes: Any) -> Experiment:
    """The layer search as declared for the loaded pair."""
    sides = {side: {"model": f"tiny-{side}", "layer": 0} for side in ("sender", "receiver")}
    return tiny_layer_search(**sides, **changes)
