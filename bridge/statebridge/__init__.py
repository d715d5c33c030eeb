"""Statebridge: can one language model tell another something through its hidden states?

The public names are listed here and loaded on first use; those of the engine need torch
(`pip install 'statebridge[engine]'`), all others do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statebridge.engine.run import RunSummary, run_experiment
    from statebridge.errors import StatebridgeError
    from statebridge.experiment import Condition, Experiment, load_experiment, parse_experiment
    from statebridge.models.pair import Pair, load_pair
    from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet
    from statebridge.results.sources import read_sources
    from statebridge.scoring import score_cell, score_conditions
    from statebridge.translators import Translator, load_translator, save_translator

_MODULES = {
    "CellResult": "records",
    "Condition": "experiment",
    "DatasetRow": "records",
    "Experiment": "experiment",
    "Pair": "models.pair",
    "ResultSet": "records",
    "LaneResult": "records",
    "RunSummary": "engine.run",
    "StatebridgeError": "errors",
    "Translator": "translators",
    "load_experiment": "experiment",
    "load_pair": "models.pair",
    "load_translator": "translators",
    "parse_experiment": "experiment",
    "read_sources": "results.sources",
    "run_experiment": "engine.run",
    "save_translator": "translators",
    "score_cell": "scoring",
    "score_conditions": "scoring",
}

__all__ = [
    "CellResult",
    "Condition",
    "DatasetRow",
    "Experiment",
    "LaneResult",
    "Pair",
    "ResultSet",
    "RunSummary",
    "StatebridgeError",
    "Translator",
    "load_experiment",
    "load_pair",
    "load_translator",
    "parse_experiment",
    "read_sources",
    "run_experiment",
    "save_translator",
    "score_cell",
    "score_conditions",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'statebridge' has no attribute {name!r}")
    return getattr(import_module(f"statebridge.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
